"""Items of tasks: a question with its choices and the place of the right one, or with its one answer.

A task is a row of tasks/tasks.yaml by name (its items ship in tasks/items.parquet, or come from the Hugging Face hub
through `datasets`), or a JSONL or Parquet file of the user's own with the columns `query`, `choices`, `gold` and, if
it has one, `id`. Which items are scored, which are shown as examples, and where the right answer stands among letters
follows from the ids and a seed, never from the order of a file.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curate.errors import InputError, RecipeError
from curate.shapes import in_words

FOLDER = Path(__file__).parent / "tasks"
Spec = TypeVar("Spec", bound=BaseModel)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Item:
    """One question."""

    id: str
    """Its own, or a hash of its content."""
    query: str
    """The question, or with `kind: contexts` the end that all choices share."""
    choices: tuple[str, ...]
    """Answers; a single one is the text to be completed with."""
    gold: int
    """Place of the right one."""


class HubSource(BaseModel):
    """Where a data set lies on the hub, and which of its columns mean what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(min_length=1)
    """`owner/name`, or a local folder of data files."""
    subset: str | None = None
    """Its configuration."""
    split: str = "validation"
    """Which part."""
    revision: str | None = None
    """Commit or tag: without it the newest, and the fingerprint says what was read."""
    query: str
    """Text with `{column}` where the column's text stands."""
    choices: str | tuple[str, ...] = ()
    """The column of the list of answers (`choices.text` for one inside another), or one column an answer."""
    fixed_choices: tuple[str, ...] = ()
    """The answers themselves, where no column has them."""
    gold: str | int
    """The column that says which is right (its place, its label, true or false), or the place where all have it."""
    labels: str | tuple[str, ...] = ()
    """The column of the answers' labels, or the labels; without them `gold` is a place that counts from 0."""


class TaskSpec(BaseModel):
    """A task as a study asks for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(pattern=r"^[\w.\-]+$")
    """Name: of a task that is known, or of the file's."""
    kind: Literal["choices", "contexts", "completion"] = "choices"
    """`choices` follow the query; or they are contexts that the query follows (Winograd); or there is one answer."""
    format: Literal["cloze", "letters"] = "cloze"
    """Whether an answer is scored as its text, or as its letter in a list under the question."""
    delimiter: str = " "
    """Between query and answer."""
    shots: int = Field(0, ge=0)
    """Items with their answers before each question; they are not scored."""
    seed: int = 0
    """Of the choice of items and examples, and of the places of lettered answers."""
    items: int | None = Field(None, gt=0)
    """At most so many are scored."""
    file: Path | None = None
    """JSONL or Parquet."""
    hub: HubSource | None = None
    """A data set of the hub."""
    license: str | None = None
    """Of the items."""

    @model_validator(mode="after")
    def _possible(self) -> "TaskSpec":
        if self.file is not None and self.hub is not None:
            raise ValueError("a task comes from a file or from the hub, not from both")
        if self.format == "letters" and self.kind != "choices":
            raise ValueError(f"lettered answers need `kind: choices`, not {self.kind}")
        return self


@cache
def known_tasks() -> Mapping[str, TaskSpec]:
    """All tasks of tasks.yaml; those without `hub` ship their items."""
    rows = yaml.safe_load((FOLDER / "tasks.yaml").read_text(encoding="utf-8"))
    return {name: TaskSpec(task=name, **row) for name, row in rows.items()}


def task_spec(asked: str | Mapping[str, Any]) -> TaskSpec:
    """A task by name, or by name with what differs: `{task: boolq, shots: 3}`, `{task: mine, file: mine.jsonl}`.

    Raises RecipeError naming the task and the field.
    """
    settings: dict[str, Any] = {"task": asked} if isinstance(asked, str) else dict(asked)
    name = str(settings.get("task", ""))
    known = known_tasks().get(name)
    if known is None and not (settings.get("file") or settings.get("hub")):
        raise RecipeError(
            f"There is no task {name!r}; give its items as `file: items.jsonl`, or choose of "
            f"{', '.join(known_tasks())}."
        )
    base = known.model_dump(exclude_unset=True) if known else {}
    if settings.get("file") or settings.get("hub"):
        base.pop("hub", None)
    return checked_spec(TaskSpec, {**base, **settings})


def checked_spec(kind: type[Spec], settings: Mapping[str, Any]) -> Spec:
    """`settings` as `kind`; raises RecipeError naming the task and each wrong field."""
    try:
        return kind(**settings)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'task'}: {in_words(problem)}" for problem in error.errors()
        )
        raise RecipeError(f"Task {settings.get('task') or settings!r}: {problems}.") from None


def load_items(spec: TaskSpec) -> list[Item]:
    """All items of a task in the order of a seeded hash of their ids; an item that stands twice counts once.

    Raises InputError naming file, row and column for what cannot be used.
    """
    if spec.file is not None:
        rows, where = rows_of_file(spec.file), str(spec.file)
    elif spec.hub is not None:
        rows, where = _rows_of_hub(spec.hub), f"{spec.hub.path} ({spec.hub.split})"
    else:
        table = pq.read_table(FOLDER / "items.parquet", filters=[("task", "=", spec.task)])
        rows, where = table.to_pylist(), f"items of {spec.task}"
    items = {item.id: item for item in (_item(row, f"{where}, row {n}", spec) for n, row in enumerate(rows))}
    if not items:
        raise InputError(f"{where}: no items; the task {spec.task!r} needs some.")
    return sorted(items.values(), key=lambda item: _chance(spec.seed, item.id))


def lettered(item: Item, *, seed: int) -> Item:
    """The item with its answers, in an order drawn by seed and id, listed in the query under letters; the choices are
    the letters."""
    if len(item.choices) > len(LETTERS):
        raise InputError(f"Item {item.id} has {len(item.choices)} choices, more than there are letters; use cloze.")
    order = sorted(range(len(item.choices)), key=lambda place: _chance(seed, f"{item.id}\0{place}"))
    stem, answer = item.query.removesuffix("\nAnswer:"), "\nAnswer:"
    listed = "".join(f"\n{LETTERS[to]}. {item.choices[place]}" for to, place in enumerate(order))
    return replace(
        item, query=stem + listed + answer, choices=tuple(LETTERS[: len(order)]), gold=order.index(item.gold)
    )


def _chance(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def rows_of_file(path: Path) -> Iterable[Mapping[str, Any]]:
    """Rows of a JSONL or Parquet file; raises InputError naming file and line."""
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path).to_pylist()
        rows = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                rows.append(json.loads(line))
                if not isinstance(rows[-1], dict):
                    raise InputError(f"{path}, line {number}: not a JSON object; an item has query, choices and gold.")
        return rows
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {number}: not JSON ({error.msg}); a task file has one object a line.") from None
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as JSONL or Parquet ({error}).") from None


def _rows_of_hub(source: HubSource) -> Iterable[Mapping[str, Any]]:
    """Rows of a data set as query, choices and gold."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(f'{source.path}: reading the hub needs `datasets`; pip install "curate[eval]".') from None
    try:
        loaded = load_dataset(source.path, source.subset, split=source.split, revision=source.revision)
    except Exception as error:  # the library raises what its file systems raise
        raise InputError(
            f"{source.path}: cannot be loaded from the hub ({type(error).__name__}: {error}); without a network give "
            "the items as `file: items.jsonl`."
        ) from None
    return [_mapped(row, source, f"{source.path} ({source.split}), row {n}") for n, row in enumerate(loaded)]


def _mapped(row: Mapping[str, Any], source: HubSource, where: str) -> dict[str, Any]:
    """A row of a foreign data set as one of ours."""

    def column(name: str) -> Any:
        value: Any = row
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise InputError(f"{where}: no column {name!r}; it has {', '.join(row)}.")
            value = value[part]
        return value

    query = re.sub(r"\{([\w.]+)\}", lambda found: str(column(found[1])).strip(), source.query)
    if source.fixed_choices:
        choices = list(source.fixed_choices)
    elif isinstance(source.choices, str):
        choices = column(source.choices)
    else:
        choices = [column(name) for name in source.choices]
    gold = source.gold if isinstance(source.gold, int) else column(source.gold)
    labels = list(column(source.labels) if isinstance(source.labels, str) and source.labels else source.labels)
    if labels:
        if str(gold) not in [str(label) for label in labels]:
            raise InputError(f"{where}: {source.gold} is {gold!r}, none of the labels {labels}.")
        gold = [str(label) for label in labels].index(str(gold))
    return {"query": query, "choices": choices, "gold": int(gold) if str(gold).isdigit() else gold}


def _item(row: Mapping[str, Any], where: str, spec: TaskSpec) -> Item:
    """A checked item."""
    query, choices, gold = row.get("query"), row.get("choices"), row.get("gold")
    if spec.kind == "completion" and isinstance(gold, str):
        choices, gold = [gold], 0
    if isinstance(gold, bool) or not isinstance(gold, int):
        raise InputError(f"{where}: `gold` is {gold!r}; it is the place of the right choice, counted from 0.")
    if not isinstance(query, str) or not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        raise InputError(f"{where}: an item has a text `query`, a list of texts `choices` and a number `gold`.")
    if not all(choices) or not (query or spec.kind == "choices"):
        raise InputError(f"{where}: an empty text cannot be scored; drop the item.")
    if spec.kind != "completion" and len(choices) < 2:
        raise InputError(f"{where}: {len(choices)} choice(s); a choice needs two, or the task `kind: completion`.")
    if not 0 <= gold < len(choices):
        raise InputError(f"{where}: `gold` is {gold}, but the choices are numbered 0 to {len(choices) - 1}.")
    content = json.dumps([query, choices, gold], ensure_ascii=False)
    name = row.get("id")
    own = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return Item(own if name is None else str(name), query, tuple(choices), gold)
