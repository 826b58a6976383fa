"""What an input of each kind is given to, and what must hold then. `Targets(folder).try_input(kind, path)` gives the
signature of what happened (sentences and fates without their numbers), or raises Broken with what is wrong.

Right is: rows and refused rows that add up, or one CurateError that names the file, in words and without a traceback.
"""

import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Dataset, Engine
from curate.errors import CurateError
from curate.readers import READERS, REFUSED_SCHEMA, list_files
from tests.fuzz.mutations import damaged, tree
from tests.fuzz.seeds import LADDERS, RECIPES, seeds

MAX_RECORD_BYTES = 1 << 20
STEPS = "  - gopher_quality: {min_words: 5}\n  - exact\n"
PACKED = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")

SUFFIX = {"warc": "warc", "wet": "warc.wet", "recipe": "yaml", "study": "yaml", "ladder": "yaml"}


class Broken(AssertionError):
    """The input showed a fault of ours."""


class Targets:
    """Tries inputs in one folder, which it fills with what recipes and studies refer to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: Dataset | None = None
        made = seeds()
        (folder / "corpus").mkdir(parents=True, exist_ok=True)
        for name in ("a", "b"):
            (folder / "corpus" / f"{name}.parquet").write_bytes(made["parquet"][0])
        (folder / "lines.jsonl").write_bytes(made["jsonl"][0])
        (folder / "crawl.warc.gz").write_bytes(made["warc.gz"][-1])
        (folder / "other.yaml").write_text(RECIPES[0].replace("name: a", "name: other"))
        (folder / "own.yaml").write_text(LADDERS[0])
        (folder / "tokenizer.json").write_text("{}")

    def path(self, kind: str) -> Path:
        """Where an input of `kind` is to be written."""
        form, _, codec = kind.partition(".")
        return self.folder / ".".join(filter(None, ["input", SUFFIX.get(form, form), codec]))

    def try_input(self, kind: str, path: Path, *, engine: bool) -> set[str]:
        """What happened, without numbers. Raises Broken."""
        form = kind.partition(".")[0]
        if form == "work":
            return self._try_work(path)
        try:
            if form == "recipe":
                self._plan(path)
                return {"recipe"}
            if form == "study":
                from curate.study import load_study

                load_study(path)
                return {"study"}
            if form == "ladder":
                from curate.proxy_training.planning.ladder_file import load_ladder

                load_ladder(path)
                return {"ladder"}
            told = _read(form, path)
        except CurateError as error:  # a recipe and a study name other files, and so may the error
            told = {_sentence(error, path, named=form not in ("recipe", "study"))}
        if engine and form in READERS:
            told |= self._run(form, path)
        return told

    def _plan(self, path: Path) -> None:
        recipe = load_recipe(path, builtin_only=True)
        Engine(self.folder / "plans", executor_for(1)).plan(recipe)

    def _run(self, form: str, path: Path) -> set[str]:
        work = self.folder / "run"
        shutil.rmtree(work, ignore_errors=True)
        extract = "  - extract\n" if form == "warc" else ""
        recipe = self.folder / "run.yaml"
        source = json.dumps({form: {"files": path.name, "max_record_bytes": MAX_RECORD_BYTES}})
        recipe.write_text(f"name: run\nsource: {source}\nsteps:\n{extract}{STEPS}")
        try:
            dataset = Engine(work, executor_for(1)).run(load_recipe(recipe, builtin_only=True))
        except CurateError as error:
            return {"engine: " + _sentence(error, path)}
        _reconciled(dataset)
        return {"engine"}

    def _try_work(self, path: Path) -> set[str]:
        """A finished or half-finished work folder with one damaged file: run again. A damaged manifest costs work and
        nothing else; damaged data does so with `verify`, and may end in one sentence without it."""
        if self._whole is None:
            self._whole = self._run_in(self.folder / "whole", verify=False)
            _reconciled(self._whole)
        dice = random.Random(path.read_bytes())
        work = self.folder / "damaged"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.folder / "whole", work)
        target = dice.choice(sorted(file for file in work.rglob("*") if file.is_file()))
        data, verify = target.read_bytes(), dice.random() < 0.5
        if target.suffix == ".json" and dice.random() < 0.7:
            data = json.dumps(tree(dice, json.loads(data))).encode()
        else:
            data = damaged(dice, data, words="bytes", text=False)
        target.write_bytes(data)
        if dice.random() < 0.6:  # as if it had been killed here
            last = work / "stages" / self._whole.stages[-1].stage.folder_name
            for file in last.glob("*.json"):
                file.unlink()
        told = f"{target.suffix} {'verified' if verify else ''}"
        try:
            dataset = self._run_in(work, verify=verify)
            same = [pq.read_table(part) for part in dataset.parts]
            whole = [pq.read_table(part) for part in self._whole.parts]
            if verify or target.suffix == ".json":
                _reconciled(dataset)
                if len(same) != len(whole) or not all(map(pa.Table.equals, same, whole)):
                    raise Broken(f"damage in {target.relative_to(work)} gave another dataset")
        except CurateError as error:
            if verify or target.suffix == ".json":
                raise Broken(f"damage in {target.relative_to(work)} is not mended: {error}") from error
            return {f"{told} {_sentence(error, target, named=False)}"}
        except (pa.ArrowException, OSError) as error:
            if verify or target.suffix == ".json":
                raise Broken(f"damage in {target.relative_to(work)} is not mended: {error}") from error
            return {f"{told} unread"}
        return {told}

    def _run_in(self, work: Path, *, verify: bool) -> Dataset:
        recipe = self.folder / "whole.yaml"
        recipe.write_text(f'name: whole\nsource: {{parquet: "corpus/*.parquet"}}\nsteps:\n{STEPS}')
        return Engine(work, executor_for(1), verify=verify).run(load_recipe(recipe))


def _read(form: str, path: Path) -> set[str]:
    """Read twice: whole, and in pieces where nothing is damaged. Rows add up, ids are unique, errors have words."""
    reader = READERS[form](max_record_bytes=MAX_RECORD_BYTES)  # type: ignore[call-arg]
    (file,) = list_files(str(path))
    rows, refused, ignored = _rows(reader.read(file))
    told = {f"{row['fate']} {row['rule'] or ''} {_shape(row['error'] or '')}" for row in refused} | set(ignored)
    keys = [row["id"] for row in rows] + [row["id"] for row in refused]
    if len(set(keys)) < len(keys):
        raise Broken(f"{len(keys)} rows have {len(set(keys))} ids")
    for row in refused:
        if not (row["error"] if row["fate"] == "failed" else row["rule"]):
            raise Broken(f"a refused row without a reason: {row}")
    _count(form, path, len(keys) + sum(ignored.values()), refused)
    for target_bytes in (1 << 11, 1 << 14):
        pieces = reader.cut(file, target_bytes=target_bytes)
        parts = [_rows(reader.read(piece.file, start=piece.start, stop=piece.stop)) for piece in pieces]
        if not any(row["fate"] == "failed" for row in refused):
            _same(rows, [row for part in parts for row in part[0]])
    return told | {f"{form} {min(len(rows), 3)}"}


def _same(whole: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    """The pieces of an undamaged file hold its rows, in order; ids that the source repeats are unique in a piece."""
    repeated = {key for key, count in Counter(row["id"] for row in pieces).items() if count > 1}
    if [row["offset"] for row in whole] != [row["offset"] for row in pieces]:
        raise Broken(f"the pieces give {len(pieces)} rows, the whole gives {len(whole)}, and nothing is damaged")
    if not repeated and [row["id"] for row in whole] != [row["id"] for row in pieces]:
        raise Broken("the pieces give other ids than the whole, and none is repeated")


def _rows(reads: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Counter[str]]:
    rows: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    ignored: Counter[str] = Counter()
    for read in reads:
        read.batch.data.validate(full=True)
        if read.refused.schema != REFUSED_SCHEMA:
            raise Broken("refused rows have another schema")
        rows += read.batch.data.select(["id", "offset"]).to_pylist()
        refused += read.refused.to_pylist()
        ignored.update(read.ignored)
    return rows, refused, ignored


def _count(form: str, path: Path, records: int, refused: list[dict[str, Any]]) -> None:
    """Records = documents + refused, by another count than the reader's own where the format has one."""
    data = path.read_bytes()
    if form == "jsonl" and path.suffix == ".jsonl" and not data.startswith(PACKED):
        data = data.removeprefix(b"\xef\xbb\xbf")
        lines = data.count(b"\n") + bool(data and not data.endswith(b"\n"))
        if records != lines:
            raise Broken(f"{lines} lines became {records} records")
    if form == "parquet" and data and not any("cannot be read" in (row["error"] or "") for row in refused):
        footer = pq.ParquetFile(path).metadata
        rows = sum(max(0, footer.row_group(number).num_rows) for number in range(footer.num_row_groups))
        if rows != records:
            raise Broken(f"{rows} rows of the footer became {records} records")


def _reconciled(dataset: Dataset) -> None:
    """Every record of every stage has one fate, counted in the ledgers' files and the parts', not in the manifests."""
    for stage in dataset.stages:
        fates: Counter[str] = Counter()
        for path in stage.ledgers:
            fates.update(pq.read_table(path, columns=["fate"])["fate"].to_pylist())
        kept = sum(pq.read_metadata(path).num_rows for path in stage.parts)
        records = stage.manifest["records_in"]
        if fates.total() != records or fates["kept"] + fates["edited"] != kept:
            raise Broken(f"{stage.stage.label}: {records} records in, fates {dict(fates)}, {kept} kept")


def _sentence(error: CurateError, path: Path, *, named: bool = True) -> str:
    text = str(error)
    if "Traceback (most recent" in text:
        raise Broken(f"a bare traceback: {text}") from error
    if not text.strip() or (named and path.name not in text and path.stem not in text):
        raise Broken(f"the error does not name {path.name}: {text[:500]}") from error
    if len(text) > 20_000:
        raise Broken(f"an error of {len(text):,} characters: {text[:200]}") from error
    return f"{type(error).__name__}: {_shape(text)}"


def _shape(text: str) -> str:
    """A sentence without what differs from input to input."""
    return re.sub(r"['\"(].{0,400}?['\")]|[0-9a-f]{6,}|\d[\d,.]*|/\S+", "#", text[:400])[:160]
