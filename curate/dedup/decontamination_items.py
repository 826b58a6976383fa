"""Items of benchmarks, as their files have them: JSON lines (plain or compressed) or Parquet, one item a row.

An item is a prompt with its answer and choices, or one text. Fields are found by the names that benchmarks use (FIELDS)
or by those that the recipe gives. The whole of a benchmark is read into memory: 45,000 items a second.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import InputError

Role = Literal["id", "benchmark", "text", "prompt", "answer", "choices"]
FIELDS: Mapping[Role, tuple[str, ...]] = {
    "id": ("id", "idx"),
    "benchmark": ("benchmark", "task"),
    "text": ("text",),
    "prompt": ("prompt", "question", "query"),
    "answer": ("answer", "gold"),
    "choices": ("choices",),
}
"""Names of fields that are tried, the first that a file has counts."""
_PARQUET = (".parquet", ".pq")
_TABLES = (".csv", ".tsv", ".xls", ".xlsx", ".ods")
_CHOICE = re.compile("[0-9]{1,9}")
"""An answer that is the number of a choice, if there is one of this number and it is none of their texts and labels."""
_HIDDEN = -1
"""The number that benchmarks give where they keep the answer to themselves."""


class BenchmarkError(InputError):
    """A benchmark cannot be used."""

    at: tuple[str | int, ...] = ()
    """The parameter of the step that it concerns: `("benchmarks", 2)`, `("fields", "prompt")`."""


@dataclass(frozen=True)
class Item:
    """One question of a benchmark."""

    benchmark: str
    id: str
    prompt: str
    """The question with what belongs to it; the whole text of an item that has nothing else."""
    answer: str = ""
    choices: tuple[str, ...] = ()
    """The other answers that it offers."""

    @property
    def text(self) -> str:
        """Everything, as a report shows it."""
        return "\n".join(filter(None, (self.prompt, self.answer, *self.choices)))


def problem_of_file(path: Path) -> str | None:
    """Why a path cannot be a benchmark's file; None if it may be."""
    if path.is_dir():
        return "is a folder, and items stand in files; name the files themselves"
    if table := next((ending for ending in map(str.lower, path.suffixes) if ending in _TABLES), None):
        return f"is a {table} file, and benchmarks are JSON lines (one object a line) or Parquet; convert it to one"
    return None


def load_items(paths: Sequence[Path], fields: Mapping[Role, str]) -> list[Item]:
    """The items of several files, in order. Raises BenchmarkError that names the file, the item and what to do."""
    return list(chain.from_iterable(items_by_file(paths, fields)))


def items_by_file(paths: Sequence[Path], fields: Mapping[Role, str]) -> list[list[Item]]:
    """The items of each file; of those of a benchmark with the same id, all but the first have their line in it."""
    taken: set[tuple[str, str]] = set()
    files = []
    for number, path in enumerate(paths):
        try:
            files.append([_distinct(item, place, taken) for place, item in _items(path, fields)])
        except BenchmarkError as error:
            error.at = error.at or ("benchmarks", number)
            raise
    return files


def _distinct(item: Item, place: str, taken: set[tuple[str, str]]) -> Item:
    key = item.id
    while (item.benchmark, key) in taken:
        key = f"{key} ({place})"
    taken.add((item.benchmark, key))
    return item if key == item.id else replace(item, id=key)


def _items(path: Path, fields: Mapping[Role, str]) -> Iterator[tuple[str, Item]]:
    """The items with their places: `line 7`."""
    if problem := problem_of_file(path):
        raise BenchmarkError(f"{path}: {problem}.")
    count = 0
    stem = path.name.split(".")[0] or path.name
    for place, row in _rows(path):
        where = f"{path}, {place}"
        names = _names(row, fields, where)
        yield place, _item(row, names, where, stem, str(count))
        count += 1
    if not count:
        raise BenchmarkError(
            f"{path}: the benchmark has no items; leave the file out, or look whether it is the right one."
        )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        if path.suffix.lower() in _PARQUET:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                for number, row in enumerate(file.read(use_threads=False).to_pylist()):
                    yield f"row {number}", row
            return
        with pa.input_stream(str(path), compression="detect") as stream:
            lines = stream.read().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise BenchmarkError(f"{path}: cannot be read as JSON lines in UTF-8 or as Parquet ({error}).") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", _object(line, f"{path}, line {number}")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BenchmarkError(
            f"{where}: is no JSON ({error}); a benchmark is JSON lines, one object a line, or a .parquet file."
        ) from None
    if not isinstance(row, dict):
        raise BenchmarkError(f"{where}: an item is an object with fields, such as {{'prompt': ..., 'answer': ...}}.")
    return row


def _names(row: Mapping[str, Any], fields: Mapping[Role, str], where: str) -> dict[Role, str]:
    """Which field has which role."""
    for role, name in fields.items():
        if name not in row:
            error = BenchmarkError(
                f"{where}: has no field {name!r}, which the recipe gives as `{role}`; it has {', '.join(row)}."
            )
            error.at = ("fields", role)
            raise error
    found = {role: next((name for name in names if name in row), None) for role, names in FIELDS.items()}
    named: dict[Role, str] = {role: name for role, name in found.items() if name is not None} | dict(fields)
    if "text" not in named and "prompt" not in named:
        raise BenchmarkError(
            f"{where}: has neither a text nor a prompt among its fields {', '.join(row)}; name the one that it is with "
            "`fields: {prompt: ...}`."
        )
    return named


def _item(row: Mapping[str, Any], names: Mapping[Role, str], where: str, stem: str, number: str) -> Item:
    values = {role: row[name] for role, name in names.items()}
    benchmark = _text(values.get("benchmark"), where, names.get("benchmark")) or stem
    key = _text(values.get("id"), where, names.get("id")) or number
    if "prompt" not in values:
        return Item(benchmark, key, _text(values["text"], where, names["text"]))
    choices, labels = _choices(values.get("choices"), where, names.get("choices"))
    answer = _text(values.get("answer"), where, names.get("answer"))
    chosen = _chosen(answer, choices, labels)
    # Text may be an answer that is none of the choices; a number has to be that of one.
    if chosen is None and choices and type(given := values.get("answer")) is int:
        if given != _HIDDEN:
            raise BenchmarkError(
                f"{where}: `{names['answer']}` is {answer}, and the {len(choices)} choices have the numbers 0 to "
                f"{len(choices) - 1}; give the choice's number from 0, its label or its text ({_HIDDEN}: not known)."
            )
        answer = ""
    if chosen is not None:
        return _with(benchmark, key, values, where, names, choices[chosen], choices[:chosen] + choices[chosen + 1 :])
    return _with(benchmark, key, values, where, names, answer, tuple(one for one in choices if one != answer))


def _with(
    benchmark: str,
    key: str,
    values: Mapping[Role, Any],
    where: str,
    names: Mapping[Role, str],
    answer: str,
    others: tuple[str, ...],
) -> Item:
    return Item(benchmark, key, _text(values["prompt"], where, names["prompt"]), answer, others)


def _chosen(answer: str, choices: tuple[str, ...], labels: tuple[str, ...]) -> int | None:
    """Which choice an answer names: by its label, or by its number from 0; an answer that is a choice's text is it."""
    if answer in choices:
        return choices.index(answer)
    if answer in labels:
        return labels.index(answer)
    return int(answer) if _CHOICE.fullmatch(answer) and int(answer) < len(choices) else None


def _choices(value: Any, where: str, name: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts and labels: a list of texts, or `{text: [...], label: [...]}`."""
    if value is None:
        return (), ()
    labels: Any = ()
    if isinstance(value, dict):
        value, labels = value.get("text"), value.get("label") or ()
    if not isinstance(value, list) or not isinstance(labels, list | tuple):
        raise BenchmarkError(f"{where}: `{name}` is no list of choices.")
    return tuple(_text(one, where, name) for one in value), tuple(_text(one, where, name) for one in labels)


def _text(value: Any, where: str, name: str | None) -> str:
    if value is None or isinstance(value, str):
        # A lone surrogate (JSON allows it) stands in no document, and Arrow takes none.
        return (value or "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool | int | float):
        return str(value)
    raise BenchmarkError(
        f"{where}: `{name}` is no text (it is a {type(value).__name__}); name another field in `fields`."
    )
