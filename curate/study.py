"""A study: datasets x ladder -> verdict. Curation, training and comparison joined, each part resumable, nothing twice.

`run_study(load_study(path), ...)` makes every dataset, checks the held-out text against them, trains one tokenizer on a
neutral mixture, packs, trains the ladder, compares, and writes measurements, verdict and page into the study's folder.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic import Field as Given

from curate.engine.executors import NOBODY, Executor, Listener
from curate.engine.recipe import Recipe, load_recipe
from curate.engine.run import Dataset, Engine
from curate.engine.strangers import check_inside, check_named
from curate.errors import InputError, MeasurementError, MismatchError, RecipeError, StageError
from curate.fingerprints import file_fingerprint, fingerprint, write_json
from curate.measurements import write_measurements
from curate.progress import Progress
from curate.storage import is_remote, redacted
from curate.yamlfile import NAME_RULE, Field, YamlFile, is_name, load_yaml

if TYPE_CHECKING:
    from curate.comparator import Verdict
    from curate.proxy_training.ladder import Ladder
    from curate.proxy_training.packing import TokenizedDataset
    from curate.report.content import StudyContent

TOKENIZER_BYTES = 1_500_000
"""Bytes of text that each dataset gives to the tokenizer's neutral mixture."""
CONTAMINATED = 0.02
"""Share of a held-out set's 13-grams in a dataset above which the verdict warns."""


class _Texts(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parquet: str | list[str]


class _Tokens(BaseModel):
    model_config = ConfigDict(extra="forbid")
    tokens: str


class _Compare(BaseModel):
    model_config = ConfigDict(extra="forbid")
    metric: str = "bits_per_byte"
    at: list[Annotated[float, Given(gt=0, allow_inf_nan=False)]] = []
    law: str = "power"
    bootstraps: Annotated[int, Given(ge=100)] = 1000
    seed: int = 0


class _StudyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    datasets: dict[str, str | _Texts | _Tokens]
    ladder: str
    seeds: Annotated[int, Given(ge=1)] | None = None
    tokenizer: str | None = None
    heldout: dict[str, str]
    compare: _Compare = _Compare()


@dataclass(frozen=True)
class Study:
    """A study that passed validation."""

    name: str
    path: Path
    recipes: dict[str, Recipe]
    """Datasets that recipes make."""
    texts: dict[str, tuple[Path, ...]]
    """Datasets that are there as Parquet files."""
    tokens: dict[str, Path]
    """Datasets that are there as packed tokens."""
    order: tuple[str, ...]
    """All datasets as the file names them."""
    ladder: str
    seeds: int | None
    tokenizer: Path | None
    heldout: dict[str, Path]
    metric: str
    at: tuple[float, ...]
    law: str
    bootstraps: int
    seed: int


@dataclass(frozen=True)
class StudyResult:
    """A finished study."""

    study: Study
    folder: Path
    datasets: dict[str, Dataset]
    tokenized: "dict[str, TokenizedDataset]"
    measurements: pa.Table
    verdict: "Verdict"
    content: "StudyContent"
    page: Path


def load_study(path: Path, *, ladder: str | None = None, builtin_only: bool = False) -> Study:
    """Read and validate a study and its recipes; `ladder` replaces its ladder. Raises RecipeError by file and line.

    `builtin_only`: the study comes from a stranger, who may name what curate.engine.strangers says.
    """
    from curate.comparator.laws import find_law

    file = load_yaml(path)
    raw = file.parse(TypeAdapter(_StudyFile), file.data)
    base = path.resolve().parent
    if builtin_only:
        _check_stranger(file, raw)
    if not is_name(raw.name):
        raise file.error(("name",), f"{NAME_RULE} (found {raw.name!r}).")
    for field, names in (("datasets", raw.datasets), ("heldout", raw.heldout)):
        for name in names:
            if not name.strip() or not name.isprintable():
                raise file.error((field, name), "a name is not empty and has no control characters.")
    try:
        find_law(raw.compare.law)  # before hours of training, not after them
    except MeasurementError as error:
        raise file.error(("compare", "law"), str(error)) from None
    if len(raw.datasets) < 2:
        raise file.error(("datasets",), "a study compares at least two datasets.")
    recipes, texts, tokens = {}, {}, {}
    for name, value in raw.datasets.items():
        if isinstance(value, str):
            recipes[name] = _recipe(file, base, name, value, builtin_only)
        elif isinstance(value, _Texts):
            texts[name] = _files(file, base, name, value.parquet)
            if builtin_only:
                check_inside(base, texts[name])
        else:
            tokens[name] = base / value.tokens
    heldout = {name: base / value for name, value in raw.heldout.items()}
    for name, target in heldout.items():
        if not target.is_file():
            raise file.error(("heldout", name), f"no such file: {target}.")
    if not heldout:
        raise file.error(("heldout",), "name at least one held-out set to measure on.")
    if tokens and raw.tokenizer is None:
        raise file.error(("tokenizer",), "datasets given as tokens need the tokenizer that made them.")
    return Study(
        name=raw.name,
        path=path.resolve(),
        recipes=recipes,
        texts=texts,
        tokens=tokens,
        order=tuple(raw.datasets),
        ladder=ladder or _ladder_name(base, raw.ladder),
        seeds=raw.seeds,
        tokenizer=base / raw.tokenizer if raw.tokenizer else None,
        heldout=heldout,
        metric=raw.compare.metric,
        at=tuple(raw.compare.at),
        law=raw.compare.law,
        bootstraps=raw.compare.bootstraps,
        seed=raw.compare.seed,
    )


def _check_stranger(file: YamlFile, raw: _StudyFile) -> None:
    named: list[tuple[Field, str]] = [(("heldout", name), target) for name, target in raw.heldout.items()]
    for name, value in raw.datasets.items():
        if isinstance(value, _Texts):
            patterns = [value.parquet] if isinstance(value.parquet, str) else value.parquet
            named += [(("datasets", name, "parquet"), pattern) for pattern in patterns]
        else:
            named.append((("datasets", name), value if isinstance(value, str) else value.tokens))
    named += [(("ladder",), raw.ladder), (("tokenizer",), raw.tokenizer or "")]
    for at, target in named:
        check_named(file, at, target)


def _recipe(file: YamlFile, base: Path, name: str, value: str, builtin_only: bool) -> Recipe:
    if not (base / value).exists():
        raise file.error(("datasets", name), f"no recipe at {base / value}.")
    return load_recipe(base / value, builtin_only=builtin_only)


def _files(file: YamlFile, base: Path, name: str, patterns: str | list[str]) -> tuple[Path, ...]:
    from curate.readers import list_files

    try:
        return tuple(Path(found.path) for found in list_files(patterns, base=base))
    except InputError as error:
        raise file.error(("datasets", name, "parquet"), str(error)) from None


def _ladder_name(base: Path, name: str) -> str:
    local = base / name
    return str(local) if local.suffix in (".yaml", ".yml") and local.exists() else name


def run_study(
    study: Study,
    *,
    work: Path,
    executor: Executor,
    workers: int,
    progress: Progress,
    verify: bool = False,
    listener: Listener = NOBODY,
) -> StudyResult:
    """Run or finish the study. Raises a CurateError that names what failed; what was finished stays.

    Its recipes' runs go to `listener` as events, training and the rest to `progress`; one view may be both.
    """
    from curate.comparator import compare
    from curate.proxy_training.ladder import load_ladder, loss_curves, train_ladder
    from curate.report.page import write_report

    if is_remote(work):
        raise StageError(
            f"{redacted(work)}: a study trains on this machine and needs a work folder on its disk; name one with "
            "--work. Its recipes may read and write URLs."
        )
    ladder = load_ladder(study.ladder)
    if study.seeds is not None:
        ladder = ladder.with_seeds(study.seeds)
    engine = Engine(work, executor, verify=verify, listener=listener)
    datasets = {name: engine.run(recipe) for name, recipe in study.recipes.items()}
    executor.close()  # training wants the cores and the memory that the curation's workers hold
    parts = {name: dataset.parts for name, dataset in datasets.items()} | {
        name: list(files) for name, files in study.texts.items()
    }
    prints = {name: dataset.fingerprint for name, dataset in datasets.items()} | {
        name: fingerprint([engine.memory.of(file) for file in files]) for name, files in study.texts.items()
    }
    folder = work / "studies" / study.name
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(study, parts, prints, ladder, work, progress)
    tokenized = _packed(study, parts, prints, tokenizer, work, progress)
    leaks = _contamination(parts, prints, study, work, engine, progress)
    measured = train_ladder(
        datasets=tokenized,
        heldout=study.heldout,
        ladder=ladder,
        out=work / "ladder",
        workers=workers,
        progress=progress,
    )
    write_measurements(measured, folder / "measurements.parquet")
    verdict = compare(
        measured, metric=study.metric, at=study.at, law=study.law, seed=study.seed, bootstraps=study.bootstraps
    )
    verdict = replace(verdict, checks=tuple(sorted((*verdict.checks, *leaks), key=_severity)))
    write_json(folder / "verdict.json", verdict.to_dict())
    runs = pa.array(sorted(set(measured.column("run_id").to_pylist())))
    curves = loss_curves(work / "ladder")
    curves = curves.filter(pc.is_in(curves.column("run_id"), value_set=runs))
    content = _content(study, datasets, tokenized, measured, curves, verdict, ladder, tokenizer)
    page = folder / "report.html"
    write_report(content, page)
    engine.memory.save()
    return StudyResult(study, folder, datasets, tokenized, measured, verdict, content, page)


def _severity(check: Any) -> int:
    return {"severe": 0, "warning": 1}.get(check.severity, 2)


def _tokenizer(
    study: Study, parts: dict[str, list[Path]], prints: dict[str, str], ladder: "Ladder", work: Path, progress: Progress
) -> Path:
    """The study's tokenizer: given, or trained once on equal bytes of each dataset."""
    from curate.proxy_training.tokenizer import train_tokenizer

    if study.tokenizer is not None:
        if not study.tokenizer.is_file():
            raise RecipeError(f"{study.path}: no tokenizer at {study.tokenizer}.")
        return study.tokenizer
    identity = fingerprint([sorted(prints.values()), ladder.vocab_size, TOKENIZER_BYTES])
    path = work / "tokenizers" / f"{identity[:16]}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with progress.task("train tokenizer", total=1) as task:
            fresh = path.with_suffix(".partial")
            train_tokenizer(_mixture(parts, prints), vocab_size=ladder.vocab_size, path=fresh)
            fresh.replace(path)
            task.advance(1)
    return path


def _mixture(parts: dict[str, list[Path]], prints: dict[str, str]) -> Iterator[str]:
    """About TOKENIZER_BYTES of each dataset, documents chosen by the hash of their id; the same for any order."""
    from curate.kernels.hashing import hash_strings

    for name in sorted(parts, key=lambda name: prints[name]):
        columns = [pq.read_table(path, columns=["id", "text"]) for path in parts[name]]
        if not columns:
            raise InputError(f"The dataset {name!r} is empty: its recipe dropped every document (see its funnel).")
        table = pa.concat_tables(columns)
        order = np.argsort(hash_strings(table.column("id").combine_chunks()), kind="stable")
        sizes = pc.fill_null(pc.binary_length(table.column("text")), 0).to_numpy()[order]
        chosen = order[: int(np.searchsorted(np.cumsum(sizes), TOKENIZER_BYTES)) + 1]
        yield from (text or "" for text in table.column("text").take(pa.array(chosen)).to_pylist())


def _packed(
    study: Study, parts: dict[str, list[Path]], prints: dict[str, str], tokenizer: Path, work: Path, progress: Progress
) -> "dict[str, TokenizedDataset]":
    from curate.proxy_training.packing import open_packed, pack_dataset

    identity = file_fingerprint(tokenizer)
    tokenized: dict[str, TokenizedDataset] = {}
    for name in study.order:
        if name in study.tokens:
            tokenized[name] = replace(open_packed(study.tokens[name]), name=name)
            if tokenized[name].tokenizer_fingerprint != identity:
                raise MismatchError(
                    f"{study.path}, datasets.{name}: the tokens in {study.tokens[name]} were made with another "
                    f"tokenizer than {tokenizer}; pack the dataset again with this one."
                )
            continue
        out = work / "tokens" / f"{prints[name][:16]}-{identity[:16]}"
        packed = pack_dataset(
            parts[name], name=name, fingerprint=prints[name], tokenizer=tokenizer, out=out, seed=0, progress=progress
        )
        tokenized[name] = replace(packed, name=name)
    return tokenized


def _contamination(
    parts: dict[str, list[Path]],
    prints: dict[str, str],
    study: Study,
    work: Path,
    engine: Engine,
    progress: Progress,
) -> list[Any]:
    """A check for each dataset that holds more than CONTAMINATED of a held-out set."""
    from curate.comparator.verdict import Check
    from curate.heldout import NGRAM, contamination

    identity = fingerprint(
        [sorted(prints.items()), {name: engine.memory.of(path) for name, path in study.heldout.items()}, NGRAM]
    )
    path = work / "contamination" / f"{identity[:16]}.json"
    if path.exists():
        shares = {tuple(key.split("\0")): share for key, share in json.loads(path.read_text()).items()}
    else:
        with progress.task("check held-out text", total=1) as task:
            shares = {tuple(key): share for key, share in contamination(parts, study.heldout).items()}
            task.advance(1)
        write_json(path, {"\0".join(key): share for key, share in shares.items()})
    return [
        Check(
            name="contamination",
            severity="severe" if share > 10 * CONTAMINATED else "warning",
            message=f"{dataset} holds {share:.1%} of the word {NGRAM}-grams of the held-out set {heldout}.",
            remedy="Take these documents out of the dataset, or measure on other text.",
        )
        for (dataset, heldout), share in sorted(shares.items())
        if share > CONTAMINATED
    ]


def _content(
    study: Study,
    datasets: dict[str, Dataset],
    tokenized: "dict[str, TokenizedDataset]",
    measured: pa.Table,
    curves: pa.Table,
    verdict: "Verdict",
    ladder: "Ladder",
    tokenizer: Path,
) -> "StudyContent":
    import datetime

    import curate
    from curate.report.content import StudyContent, dataset_content

    procedures = sorted(set(measured.column("procedure").to_pylist()))
    seeds = sorted(set(measured.column("seed").to_pylist()))
    facts = {
        "study": str(study.path.name),
        "ladder": study.ladder,
        "scales": ", ".join(dict.fromkeys(measured.column("scale").to_pylist())),
        "seeds": ", ".join(str(seed) for seed in seeds),
        "procedure": ", ".join(procedures),
        "tokenizer": f"{file_fingerprint(tokenizer)} (vocabulary {ladder.vocab_size})",
        "evaluation": ", ".join(sorted(set(measured.column("evaluation").to_pylist()))),
        "held-out sets": ", ".join(study.heldout),
        "bootstraps": f"{study.bootstraps}, seed {study.seed}",
    }
    return StudyContent(
        name=study.name,
        version=curate.__version__,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        datasets=[
            dataset_content(datasets[name], name=name, tokens=tokenized[name].tokens)
            for name in study.order
            if name in datasets
        ],
        measurements=measured,
        curves=curves,
        verdict=verdict,
        facts=facts,
    )
