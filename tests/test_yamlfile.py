"""Every field of a YAML file knows its line, and numbers are numbers."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

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


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class _Best:
    best: str


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class _Ranked:
    ranked: Annotated[tuple[str, ...], Field(min_length=1)]
    by: str
    then: Literal["first", "last"] = "first"


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class _Choices:
    keep: Literal["first", "last"] | _Best | _Ranked = "first"
    words: dict[str, str | list[str]] | None = None


CHOICES = "keep: must be first, last, {best: ...} or {ranked: [...], by: ...}; got %s."


@pytest.mark.parametrize(("text", "said"), [
    ("keep: longer", CHOICES % "'longer'"),
    ("keep: [first]", CHOICES % "['first']"),
    ("keep: {}", CHOICES % "{}"),
    ("keep: {worst: a}", CHOICES % "{'worst': 'a'}"),
    ("keep: {best: 1, ranked: a}", CHOICES % "{'best': 1, 'ranked': 'a'}"),
    ("keep: {ranked: wiki, by: kind}", "keep.ranked: must be a list, [...]; got 'wiki'."),
    ("keep: {ranked: [], by: kind}", "keep.ranked: must have 1 or more; got []."),
    ("keep: {ranked: [wiki]}", "keep.by: this field is missing."),
    ("keep: {ranked: [a], by: b, then: c}", "keep.then: must be 'first' or 'last' (found 'c')."),
    ("keep: {best: a, ranked: [b], by: c, els: d}", CHOICES % "{'best': 'a', 'ranked': ['b'], 'by': 'c', 'els': 'd'}"),
    ("wrods: {}", "wrods: there is no such field here; did you mean 'words'?"),
    ("colour: red", "colour: there is no such field here."),
    ("words: {en: 5}", "words.en: must be text or a list, [...]; got 5."),
    ("words: [en]", "words: must be fields, {...}; got ['en']."),
])  # fmt: skip
def test_a_choice_that_is_none_is_one_sentence_with_the_choices(tmp_path: Path, text: str, said: str) -> None:
    file = load_yaml(_file(tmp_path, f"# nothing\n{text}\n"))
    with pytest.raises(RecipeError) as error:
        file.parse(_Choices, file.data)
    assert str(error.value) == f"{file.path}, line 2, {said}"


class _Several(BaseModel):
    model_config = ConfigDict(extra="forbid")
    factors: tuple[Annotated[float, Field(gt=0)], ...] = Field((), min_length=1)
    on: int | list[str] = 1


class _Rates(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rates: _Several | list[Annotated[float, Field(gt=0, le=1e6)]]
    counts: Annotated[int, Field(ge=1)] | dict[str, Annotated[int, Field(ge=1)]] = 1


@pytest.mark.parametrize(("text", "said"), [
    ("rates: [1, .nan]", "rates[1]: must be a number (found nan)."),
    ("rates: [2e6]", "rates[0]: must be 1,000,000 or less (found 2000000.0)."),
    ("rates: {factors: [0]}", "rates.factors[0]: must be above 0 (found 0)."),
    ("rates: {factors: [1], on: [2]}", "rates.on[0]: must be text (found 2)."),
    ("rates: 3", "rates: must be {factors: [...], on: ...} or a list, [...]; got 3."),
    ("rates: [a]", "rates[0]: must be a number (found 'a')."),
    ("rates: [1]\ncounts: 0", "counts: must be 1 or more (found 0)."),
    ("rates: [1]\ncounts: {a: 1.5}", "counts.a: must be a whole number (found 1.5)."),
    ("rates: [1]\ncounts: many", "counts: must be a whole number or fields, {...}; got 'many'."),
])  # fmt: skip
def test_a_value_of_the_right_kind_is_told_what_is_wrong_inside_it(tmp_path: Path, text: str, said: str) -> None:
    file = load_yaml(_file(tmp_path, text))
    with pytest.raises(RecipeError) as error:
        file.parse(_Rates, file.data)
    assert str(error.value) == f"{file.path}, line {text.count(chr(10)) + 1}, {said}"
