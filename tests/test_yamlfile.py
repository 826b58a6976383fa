"""Every field of a YAML file knows its line, and numbers are numbers."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from curate.errors import RecipeError
from curate.yamlfile import load_yaml, show


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    inner: list[_Inner]


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return path


def test_a_problem_deep_inside_names_its_line(tmp_path: Path) -> None:
    file = load_yaml(_file(tmp_path, "name: a\ninner:\n  - size: 1\n  - size: big\n"))
    with pytest.raises(RecipeError, match=r"line 4, inner\[1\]\.size.*'big'"):
        file.parse(_Outer, file.data)


def test_a_missing_field_names_its_parent(tmp_path: Path) -> None:
    file = load_yaml(_file(tmp_path, "name: a\ninner:\n  - {}\n"))
    with pytest.raises(RecipeError, match=r"line 3, inner\[0\]\.size: this field is missing"):
        file.parse(_Outer, file.data)


def test_exponents_without_a_point_are_numbers(tmp_path: Path) -> None:
    data = load_yaml(_file(tmp_path, "a: [1e14, 2E3, 1.5e-3, '1e5', 1e, 10e14x]\n")).data
    assert data == {"a": [1e14, 2e3, 1.5e-3, "1e5", "1e", "10e14x"]}


def test_norwegian_is_a_language_and_not_false(tmp_path: Path) -> None:
    data = load_yaml(_file(tmp_path, "keep: [no, en]\non: true\noff: False\n")).data
    assert data == {"keep": ["no", "en"], "on": True, "off": False}


def test_an_empty_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="the file is empty"):
        load_yaml(_file(tmp_path, "# nothing\n"))


def test_fields_are_shown_as_people_write_them() -> None:
    assert show(("steps", 2, "gopher_quality", "min_words")) == "steps[2].gopher_quality.min_words"
