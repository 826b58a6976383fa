"""Static figures: written in each format, fonts embedded, the same bytes again, any name as it is."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.comparator import compare
from curate.errors import CurateError
from curate.report.figures import write_figures

HEADS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_folder_gets_laws_gaps_and_ranking(verdict: Any, tmp_path: Path, kind: Any) -> None:
    files = write_figures(verdict, tmp_path / "new" / "figures", format=kind)
    assert [file.name for file in files] == [f"{name}.{kind}" for name in ("laws", "gaps", "ranking")]
    assert all(file.read_bytes().startswith(HEADS[kind]) and file.stat().st_size > 5000 for file in files)


def test_a_file_gets_all_on_one_sheet_in_the_format_of_its_name(verdict: Any, tmp_path: Path) -> None:
    assert write_figures(verdict, tmp_path / "sheet.svg") == [tmp_path / "sheet.svg"]
    drawn = (tmp_path / "sheet.svg").read_text(encoding="utf-8")
    for words in ("full over heuristics", "C = 1e14", "bits per byte (lower is better)", "training compute C (FLOPs)"):
        assert words.replace(" over ", "</text>") in drawn or words in drawn or words.split(" over ")[0] in drawn


def test_fonts_are_embedded_as_truetype(verdict: Any, tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(b"")
    write_figures(verdict, tmp_path / "x.pdf")
    written = (tmp_path / "x.pdf").read_bytes()
    assert b"/FontFile2" in written and b"/Type3" not in written


@pytest.mark.parametrize("kind", ["pdf", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("png", "svg"))])
def test_the_same_verdict_gives_the_same_bytes(verdict: Any, tmp_path: Path, kind: str) -> None:
    (first,) = write_figures(verdict, tmp_path / f"a.{kind}")
    (second,) = write_figures(verdict, tmp_path / f"b.{kind}")
    assert first.read_bytes() == second.read_bytes()


def test_the_global_state_of_pyplot_stays_as_it_was(verdict: Any, tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_figures(verdict, tmp_path / "x.png")
    assert dict(matplotlib.rcParams) == before


def test_names_are_never_formulas_or_markup(hostile: Any, tmp_path: Path) -> None:
    told = hostile.verdict
    write_figures(told, tmp_path / "x.svg")
    drawn = (tmp_path / "x.svg").read_text(encoding="utf-8")
    assert "<script" not in drawn and "&lt;/script" in drawn


def test_an_unknown_format_is_refused_by_name(verdict: Any, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"'gif' is no format.*png, svg, pdf"):
        write_figures(verdict, tmp_path, format="gif")  # type: ignore[arg-type]
    with pytest.raises(CurateError, match=r"ends in .png, but the format asked for is pdf"):
        write_figures(verdict, tmp_path / "x.png", format="pdf")


def test_a_verdict_without_laws_has_gaps_and_ranking(verdict: Any, tmp_path: Path) -> None:
    bare = dataclasses.replace(verdict, headline=dataclasses.replace(verdict.headline, fits=()))
    assert [file.stem for file in write_figures(bare, tmp_path)] == ["gaps", "ranking"]


def test_a_script_without_a_font_is_drawn_without_a_word_on_the_terminal(
    measurements: pa.Table, tmp_path: Path
) -> None:
    renamed = pa.array([f"数据集 \U0001f9ea {name}" for name in measurements["dataset"].to_pylist()])
    place = measurements.schema.get_field_index("dataset")
    table = measurements.set_column(place, measurements.schema.field(place), renamed)
    foreign = compare(table, metric="bits_per_byte", bootstraps=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(path.stat().st_size for path in write_figures(foreign, tmp_path))
