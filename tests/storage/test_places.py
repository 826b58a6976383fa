"""A URL behaves as a path does, the store is asked each time, and nothing goes missing from a listing."""

from pathlib import Path
from typing import Any

import fsspec
import pytest

from curate.errors import InputError, StorageError
from curate.readers import list_files
from curate.storage import at, is_remote, put


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A folder that is not there yet, of three kinds of place."""
    if request.param == "local":
        return at(tmp_path / "root")
    if request.param == "memory":
        system = fsspec.filesystem("memory")
        if system.exists("/places"):
            system.rm("/places", recursive=True)
        return at("memory://places/root")
    return at(request.getfixturevalue("store").url("root"))


def test_a_place_is_used_as_a_path(root: Any) -> None:
    file = root / "a" / "one.txt"
    assert not root.exists() and not file.exists() and not file.is_file() and not root.is_dir()
    root.mkdir(parents=True, exist_ok=True)
    put(file, b"first\nsecond\n")
    assert file.exists() and file.is_file() and not file.is_dir() and file.parent.is_dir()
    assert file.stat().st_size == 13 and (file.name, file.stem, file.suffix) == ("one.txt", "one", ".txt")
    assert file.read_bytes() == b"first\nsecond\n" and file.read_text() == "first\nsecond\n"
    with file.open("rb") as stream:
        assert stream.seek(-7, 2) == 6 and stream.read() == b"second\n" and stream.read() == b""
    with file.open() as stream:
        assert list(stream) == ["first\n", "second\n"]
    put(file, b"other")
    assert file.read_text() == "other", "the store is asked, not a listing from before"
    file.unlink()
    assert not file.exists()
    file.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        file.unlink()
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    with pytest.raises(FileNotFoundError):
        file.stat()


def test_listings_and_globs_find_what_is_there_now(root: Any) -> None:
    for name in ("b.txt", "a.txt", "c/d.txt", "c/e/f.txt", "c/e/.hidden.txt"):
        put(root / name, b"x")
    assert sorted(path.name for path in root.iterdir()) == ["a.txt", "b.txt", "c"]
    assert [path.name for path in sorted(root.glob("*.txt"))] == ["a.txt", "b.txt"]
    assert [path.name for path in root.glob("*/d.txt")] == ["d.txt"]
    assert {path.name for path in root.glob("**/*.txt")} == {"a.txt", "b.txt", "d.txt", "f.txt", ".hidden.txt"}
    put(root / "new.txt", b"x")
    assert len(list(root.glob("*.txt"))) == 3
    assert [file.name for file in list_files(str(root))] == ["a.txt", "b.txt", "c/d.txt", "c/e/f.txt", "new.txt"]
    assert [file.name for file in list_files(f"{root}/**/*.txt")] == [
        "a.txt",
        "b.txt",
        "c/d.txt",
        "c/e/f.txt",
        "new.txt",
    ]
    assert [file.name for file in list_files(f"{root}/c/*.txt")] == ["d.txt"]
    assert [file.name for file in list_files(f"{root}/c/d.txt")] == ["d.txt"]
    assert [file.name for file in list_files([f"{root}/c/*.txt", f"{root}/a.txt"])] == ["a.txt", "c/d.txt"]
    with pytest.raises(InputError, match="no file found"):
        list_files(f"{root}/nowhere/*.txt")


def test_names_are_listed_over_many_pages(store: Any, fault: Any) -> None:
    for number in range(120):
        store.put(f"many/{number:04d}.txt", b"x")
    store.proxy.faults.append(fault("throttle", every=2, methods=("GET",)))
    assert len(list_files(store.url("many/*.txt"))) == 120
    assert store.proxy.struck("throttle") >= 1


def test_a_listing_that_fails_for_a_while_misses_nothing(store: Any, fault: Any) -> None:
    for number in range(12):
        store.put(f"crawl/{number}/warc/{number}.warc.gz", b"x")
    for kind in ("throttle", "cut", "reset"):
        store.proxy.faults[:] = [fault(kind, every=4)]
        assert len(list_files(store.url("crawl/*/warc/*.warc.gz"))) == 12
        assert store.proxy.struck(kind) >= 3


def test_a_store_that_cannot_be_used_is_one_sentence(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nosuch://x/y: this kind of URL cannot be used"):
        at("nosuch://x/y")
    with pytest.raises(InputError, match="no file found"):
        list_files("s3://no-such-bucket-of-ours/x/*.gz")
    with pytest.raises(StorageError, match="cannot be written"):
        put(at("s3://no-such-bucket-of-ours/x"), b"x")
    with pytest.raises(StorageError, match="nothing is renamed"):
        at(store.url("a")).rename(store.url("b"))
    with pytest.raises(StorageError, match=r"write remote files with `storage.put`"):
        at(store.url("a")).open("w")
    assert not store.keys()


def test_a_url_that_lost_a_slash_is_no_local_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="two slashes"):
        at(Path("s3://bucket/work"))
    assert at("file:///tmp/x") == Path("/tmp/x") and not is_remote("file:///tmp/x")


def test_a_key_with_odd_characters_is_a_key(store: Any) -> None:
    for key in ("a b/ü?x#y.txt", "a b/100%25.txt", "a b/[1].txt"):
        put(at(store.url("odd")) / key, key.encode())
        assert store.get(f"odd/{key}") == key.encode()
        assert (at(store.url("odd")) / key).read_text() == key


def test_signed_urls_have_names_without_their_keys(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    store.put("in/a.jsonl", b'{"text": "one"}\n')
    url = store.client.generate_presigned_url("get_object", Params={"Bucket": store.bucket, "Key": "in/a.jsonl"})
    assert "Signature=" in url
    (file,) = list_files(url)
    assert "AKIA" not in file.name and file.name.startswith("a.jsonl?")
    with file.open() as stream:
        assert stream.read() == b'{"text": "one"}\n'
    with pytest.raises(InputError, match="differ by their credentials only"):
        list_files([url, url.replace("Signature=", "Signature=x")])
