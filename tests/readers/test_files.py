"""Finding files: the same names in any clone, sorted, none twice, and a clear error where there are none."""

from pathlib import Path

import pytest

from curate.errors import InputError
from curate.readers import list_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "crawl/b/2.warc",
        "crawl/a/1.warc",
        "crawl/a/10.warc",
        "crawl/.hidden/3.warc",
        "crawl/_SUCCESS",
        "x[1].jsonl",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_names_are_relative_to_the_folder_before_the_first_wildcard(tree: Path) -> None:
    names = [file.name for file in list_files("crawl/*/*.warc", base=tree)]
    assert names == ["a/1.warc", "a/10.warc", "b/2.warc"]
    assert [file.name for file in list_files("crawl/.hid*/*.warc", base=tree)] == [".hidden/3.warc"]
    assert [file.name for file in list_files("crawl/a/1.warc", base=tree)] == ["1.warc"]
    assert [file.name for file in list_files("crawl/**/2.warc", base=tree)] == ["b/2.warc"]


def test_a_folder_gives_all_its_files_but_hidden_ones(tree: Path) -> None:
    assert [file.name for file in list_files(str(tree / "crawl"))] == ["a/1.warc", "a/10.warc", "b/2.warc"]


def test_names_are_the_same_in_another_clone(tree: Path, tmp_path: Path) -> None:
    clone = tmp_path / "elsewhere" / "clone"
    (clone / "crawl" / "a").mkdir(parents=True)
    (clone / "crawl" / "a" / "1.warc").write_text("x")
    assert list_files("crawl/a/*.warc", base=clone)[0].name == list_files("crawl/a/*.warc", base=tree)[0].name


def test_several_patterns_share_a_root_and_give_no_file_twice(tree: Path) -> None:
    files = list_files(["crawl/a/*.warc", "crawl/b/*.warc", "crawl/a/1.warc"], base=tree)
    assert [file.name for file in files] == ["a/1.warc", "a/10.warc", "b/2.warc"]


def test_a_bracket_in_a_name_is_no_pattern(tree: Path) -> None:
    assert [file.name for file in list_files("x[1].jsonl", base=tree)] == ["x[1].jsonl"]


def test_size_and_etag_tell_a_changed_file(tree: Path) -> None:
    (before,) = list_files("crawl/a/1.warc", base=tree)
    (tree / "crawl/a/1.warc").write_text("longer than before")
    (after,) = list_files("crawl/a/1.warc", base=tree)
    assert before.size != after.size and before.etag != after.etag


@pytest.mark.parametrize("pattern", ["nothing/*.warc", "gone.warc", "memory://nowhere/*.warc", "nosuch://x/*.warc", []])
def test_nothing_found_is_an_input_error_that_names_the_pattern(tree: Path, pattern: str | list[str]) -> None:
    with pytest.raises(InputError, match="names no file" if pattern == [] else str(pattern)[:8]):
        list_files(pattern, base=tree)


def test_one_source_does_not_mix_file_systems(tree: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/mixed/1.warc", b"x")
    with pytest.raises(InputError, match="one file system"):
        list_files(["crawl/a/1.warc", "memory://mixed/1.warc"], base=tree)
