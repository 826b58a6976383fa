"""What decontamination found, benchmark by benchmark, with documents beside the items that they hold: page and data.

From the manifest of the stage (counts), its ledgers (which document held which item), the texts that it received and
the benchmarks' files. Of each benchmark EXAMPLES documents are shown, spread over their shares; all text is escaped.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.dedup.decontamination import Decontaminate
from curate.dedup.decontamination_cuts import merged
from curate.dedup.decontamination_index import TOO_COMMON, TOO_SHORT, BenchmarkIndex
from curate.engine.as_run import plan_as_run
from curate.engine.recipe import Recipe, load_class
from curate.engine.stages import Stage
from curate.errors import InputError
from curate.kernels.ngram_index import find_ngrams
from curate.report.elements import cell, code, folded, head, note, number, row, scrolling, table
from curate.report.markup import Html, join, shortened, tag
from curate.report.numbers import count, digits
from curate.storage import at

if TYPE_CHECKING:
    from curate.dedup.decontamination_items import Item

EXAMPLES = 12
"""Documents shown of a benchmark."""
_CANDIDATES = 256
"""Documents of a benchmark, those with the smallest ids, of which the examples are chosen."""
_CONTEXT = 120
"""Characters before and after a passage."""
_PASSAGE = 700
"""Characters of a passage that are shown."""
_PASSAGES = 3
_AFTER_CUTTING = {"max_cuts": "passages to cut: {:,.0f}", "nothing_left": "characters of the longest piece: {:,.0f}"}
"""Why a document leaves that was cut."""
_OPEN = 2
"""Documents of a benchmark that stand open, so that a print shows passages, too."""
_NOT_CHECKED = 200
"""Items that are named on the page; the data has all."""
_NAMED = 6
"""Of more, the names are folded."""


@dataclass(frozen=True)
class Passage:
    """A piece of a text: what stands before, what is in the item and in the document, what follows."""

    before: str
    same: str
    after: str


@dataclass(frozen=True)
class Example:
    """A document and the item of which it holds the largest share."""

    document: str
    fate: str
    benchmark: str
    item: str
    share: float | None
    said: str
    in_document: tuple[Passage, ...]
    in_item: tuple[Passage, ...]


@dataclass(frozen=True)
class Decontamination:
    """One step of a recipe that ran."""

    label: str
    parameters: dict[str, Any]
    summary: dict[str, Any]
    fates: dict[str, int]
    examples: dict[str, list[Example]]
    """By benchmark."""

    def data(self) -> dict[str, Any]:
        """Everything, as JSON has it."""
        shown = {name: [asdict(each) for each in some] for name, some in self.examples.items()}
        return {
            "stage": self.label,
            "parameters": self.parameters,
            "fates": self.fates,
            **self.summary,
            "examples": shown,
        }


def decontaminations(recipe: Recipe, *, work: Path) -> list[Decontamination]:
    """All of them, in the recipe's order. Raises InputError if it has none, or did not run in this work folder."""
    plan = plan_as_run(recipe, at(work))
    stages = [stage for stage in plan.stages if any(load_class(spec.path) is Decontaminate for spec in stage.steps)]
    if not stages:
        raise InputError(f"{recipe.path}: the recipe has no step `decontaminate`, so there is nothing to report.")
    for stage in stages:
        if not (stage.folder(work) / "manifest.json").exists():
            raise InputError(f"{work}: {stage.label} is not finished here; run `curate run {recipe.path}` first.")
    return [_of_stage(stage, work) for stage in stages]


def _of_stage(stage: Stage, work: Path) -> Decontamination:
    folder = stage.folder(work)
    step, manifest = stage.steps[0].build(), json.loads((folder / "manifest.json").read_text())
    index = step.index()
    numbers = {(item.benchmark, item.id): number for number, item in reversed(list(enumerate(index.items)))}
    chosen = _chosen(folder, step)
    before = stage.parent.folder(work) if stage.parent else folder
    texts = _texts(sorted(before.glob("part-*.parquet")), {each["id"] for some in chosen.values() for each in some})
    shown = {
        benchmark: [_example(each, texts.get(each["id"], ""), index, numbers) for each in some]
        for benchmark, some in sorted(chosen.items())
    }
    parameters = {name: value for name, value in step.parameters().items() if name != "benchmarks"}
    return Decontamination(stage.label, parameters, manifest["summary"], manifest["fates"], shown)


def _chosen(folder: Path, step: Decontaminate) -> dict[str, list[dict[str, Any]]]:
    """id, fate, benchmark, item, share and note of some documents of each benchmark."""
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    rows = _of_parts(folder, step) if step.action != "drop" else iter(())
    for each in chain(_of_ledgers(folder, step), rows):
        some = found[each["benchmark"]]
        some.append(each)
        if len(some) > 4 * _CANDIDATES:
            some.sort(key=lambda one: one["id"])
            del some[_CANDIDATES:]
    return {benchmark: _spread_over(some) for benchmark, some in found.items()}


def _of_ledgers(folder: Path, step: Decontaminate) -> Iterator[dict[str, Any]]:
    """Documents that left: the note names item and benchmark."""
    for path in sorted(folder.glob("ledger-*.parquet")):
        rows = _read(path, ["id", "fate", "rule", "value", "error"])
        gone = rows.filter(pc.and_(pc.equal(rows["fate"], "dropped"), pc.is_valid(rows["error"])))
        for each in gone.to_pylist():
            named, _, said = each["error"].rpartition(", ")
            benchmark, fate = each["rule"].removeprefix(f"{step.name}."), "dropped"
            if step.action == "cut":
                benchmark, _, why = benchmark.rpartition(".")
                fate = f"dropped ({_AFTER_CUTTING[why].format(each['value'])})"
            yield {
                "id": each["id"],
                "fate": fate,
                "benchmark": benchmark,
                "item": named.removeprefix("item ").removesuffix(f" of {benchmark}"),
                "share": None if step.action == "cut" else each["value"],
                "said": said,
            }


def _of_parts(folder: Path, step: Decontaminate) -> Iterator[dict[str, Any]]:
    """Documents that stayed, from the columns that the step added."""
    columns = [f"{step.name}.{name}" for name in ("benchmark", "item", "share")]
    for path in sorted(folder.glob("part-*.parquet")):
        rows = _read(path, ["id", *columns])
        for each in rows.filter(pc.is_valid(rows[columns[0]])).to_pylist():
            benchmark, item, share = (each[name] for name in columns)
            fate = "cut" if step.action == "cut" else "kept"
            yield {"id": each["id"], "fate": fate, "benchmark": benchmark, "item": item, "share": share, "said": ""}


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    with path.open("rb") as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        return file.read(columns=list(columns), use_threads=False)


def _spread_over(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """EXAMPLES of the rows, evenly over their shares, the largest first."""
    some = sorted(rows, key=lambda each: each["id"])[:_CANDIDATES]
    some.sort(key=lambda each: (-(each["share"] or 0.0), each["id"]))
    if len(some) <= EXAMPLES:
        return some
    return [some[place * (len(some) - 1) // (EXAMPLES - 1)] for place in range(EXAMPLES)]


def _texts(parts: Sequence[Path], wanted: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    ids = pa.array(sorted(wanted), pa.string())
    for path in parts:
        with path.open("rb") as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                hits = pc.is_in(file.read_row_group(group, columns=["id"], use_threads=False)["id"], value_set=ids)
                if pc.any(hits).as_py():
                    rows = file.read_row_group(group, columns=["id", "text"], use_threads=False).filter(hits)
                    found |= {each["id"]: each["text"] or "" for each in rows.to_pylist()}
    return found


def _example(
    each: Mapping[str, Any], text: str, index: BenchmarkIndex, numbers: Mapping[tuple[str, str], int]
) -> Example:
    number = numbers.get((each["benchmark"], each["item"]))
    in_document: tuple[Passage, ...] = ()
    in_item: tuple[Passage, ...] = ()
    if number is not None and text:
        in_document, in_item = _passages(text, index.items[number], int(index.same_as[number]), index)
    return Example(
        each["id"], each["fate"], each["benchmark"], each["item"], each["share"], each["said"], in_document, in_item
    )


def _passages(
    text: str, item: "Item", number: int, index: BenchmarkIndex
) -> tuple[tuple[Passage, ...], tuple[Passage, ...]]:
    """The passages of a document that are in an item, and the item's that are in the document."""
    hits = find_ngrams(pa.array([text, item.text]), index.table)
    own = np.intersect1d(hits.gram[hits.text == 0], index.grams_of(np.array([number]))[1])
    sides = []
    for which, whole in enumerate((text, item.text)):
        here = (hits.text == which) & np.isin(hits.gram, own)
        starts, ends = merged(hits.start[here].astype(np.int64), hits.end[here].astype(np.int64))
        longest = np.sort(np.argsort(starts - ends, kind="stable")[:_PASSAGES])
        data = whole.encode()
        sides.append(tuple(_passage(data, int(starts[one]), int(ends[one])) for one in longest))
    return sides[0], sides[1]


def _passage(data: bytes, start: int, end: int) -> Passage:
    before = data[:start].decode()[-_CONTEXT:]
    after = data[end : end + 4 * _CONTEXT].decode(errors="ignore")[:_CONTEXT]
    return Passage(before, shortened(data[start:end].decode(), _PASSAGE), after)


def decontamination_sections(found: Sequence[Decontamination]) -> list[tuple[str, str, Html]]:
    """The page: a table of the benchmarks, each one that was found, and the items that were not checked."""
    sections: list[tuple[str, str, Html]] = []
    for place, each in enumerate(found):
        sections.append((f"step-{place}", f"Benchmarks ({each.label})", _overview(each)))
        for which, (name, told) in enumerate(_ranked(each)):
            if told["found"]:
                sections.append((f"benchmark-{place}-{which}", shortened(name, 60), _benchmark(each, name, told)))
        if each.summary["not_checked"]:
            sections.append((f"not-checked-{place}", "Items not checked", _not_checked(each)))
    return sections


def _ranked(each: Decontamination) -> list[tuple[str, dict[str, Any]]]:
    """The benchmarks, that of which most items were found first."""
    return sorted(each.summary["benchmarks"].items(), key=lambda one: (-one[1]["found"], -one[1]["documents"], one[0]))


def _overview(each: Decontamination) -> Html:
    heads = ("benchmark", "items", "found", "documents", "too short", "too common", "same words as another")
    rows = [
        row(
            head(shortened(name, 60)),
            *(number(count(value), sort=value) for value in _numbers(told)),
        )
        for name, told in _ranked(each)
    ]
    summary = each.summary
    said = (
        f"{count(summary['flagged_documents'])} of {count(summary['documents'])} documents hold an item; "
        f"{count(summary['ngrams'])} of the benchmarks' n-grams stand in the corpus, {count(summary['common_ngrams'])} "
        f"of them in more than {each.parameters['common_documents']} documents, so that they weigh less."
    )
    parameters = ", ".join(f"{name} {value}" for name, value in each.parameters.items() if value not in ({}, None))
    return join([note(said), note(parameters), scrolling(table(heads, rows, numeric=range(1, 7), sortable=True), rows)])


def _numbers(told: Mapping[str, Any]) -> tuple[int, ...]:
    unchecked = told["not_checked"]
    counts = (len(unchecked[TOO_SHORT]), len(unchecked[TOO_COMMON]), told["same_as_another"])
    return told["items"], told["found"], told["documents"], *counts


def _benchmark(each: Decontamination, name: str, told: Mapping[str, Any]) -> Html:
    some = each.examples.get(name, [])
    blocks: list[Html] = [_pair(example, is_open=place < _OPEN) for place, example in enumerate(some)]
    if not blocks:
        blocks.append(note("Documents that hold its items hold more of another benchmark, where they are shown."))
    most = sorted(told["found_items"], key=lambda one: (-one["documents"], one["item"]))[:EXAMPLES]
    if most and most[0]["documents"] > 1:
        rows = [row(head(code(one["item"], 80)), number(count(one["documents"]))) for one in most]
        said = "items in most documents (a quotation, or a copied benchmark?)"
        blocks.append(folded(said, table(("item", "documents"), rows, numeric=(1,))))
    return join(blocks)


def _not_checked(each: Decontamination) -> Html:
    """A row for each benchmark and reason."""
    rows = []
    for name, told in each.summary["benchmarks"].items():
        for why, items in told["not_checked"].items():
            if items:
                numbers = number(count(len(items)), sort=len(items)), number(count(told["items"]), sort=told["items"])
                rows.append(row(head(shortened(name, 60)), *numbers, cell(why), cell(_named(items))))
    heads = ("benchmark", "not checked", "of", "because", "items")
    shown = table(heads, rows, numeric=(1, 2), sortable=True)
    return join([note(f"{each.summary['note']}: nothing is known of them."), shown])


def _named(items: Sequence[str]) -> Html:
    """The names of items, folded where they are many."""
    shown = ", ".join(shortened(item, 60) for item in items[:_NOT_CHECKED])
    more = f" and {count(len(items) - _NOT_CHECKED)} more (`--json` has all)" if len(items) > _NOT_CHECKED else ""
    if len(items) <= _NAMED:
        return join([shown])
    return folded(f"{', '.join(shortened(item, 20) for item in items[:2])}, …", note(shown, more))


def _pair(example: Example, *, is_open: bool) -> Html:
    share = "" if example.share is None else f"share {digits(example.share, 3)} "
    title = [
        tag("b", share),
        shortened(example.document, 80),
        f" · {example.fate} · item ",
        shortened(example.item, 60),
    ]
    sides = [
        tag("div.card", tag("p.side", side), code(name, 80), _shown(passages))
        for side, name, passages in (
            ("document", example.document, example.in_document),
            (f"item of {shortened(example.benchmark, 60)}", example.item, example.in_item),
        )
    ]
    return folded(title, tag("div.pair", sides), note(example.said) if example.said else None, is_open=is_open)


def _shown(passages: Sequence[Passage]) -> Html:
    pieces = [[each.before, tag("mark", each.same), each.after] for each in passages]
    content = [[*piece, "\n…\n" if place + 1 < len(pieces) else ""] for place, piece in enumerate(pieces)]
    return tag("pre.text", content or "(its text is not in the stage before)", attributes={"dir": "auto"})


def overview_rows(each: Decontamination) -> list[tuple[str, ...]]:
    """What the terminal shows: name, items, found, documents and items not checked of each benchmark."""
    return [
        (name, *(count(told[key]) for key in ("items", "found", "documents")), _unchecked(told["not_checked"]))
        for name, told in _ranked(each)
    ]


def _unchecked(items: Mapping[str, Sequence[str]]) -> str:
    """`2 too short, 1 too common`."""
    return ", ".join(f"{count(len(some))} {why}" for why, some in items.items() if some)
