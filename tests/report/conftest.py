"""A study made up for tests: measurements with a known order, loss curves, funnels; and the same with hostile text."""

import dataclasses
import json
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.measurements import SCHEMA
from curate.report.content import DatasetContent, DuplicateContent, StudyContent

SCALES = {"0.2M": 2e5, "0.5M": 5e5, "1.2M": 1.2e6, "3M": 3e6}
LEVELS = {"full": 0.0, "heuristics": 0.05, "raw": 0.12}

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>"
    "</title></style></pre></textarea><iframe src='https://evil.example/'></iframe><!-- ]]>"
    "\x00\x1b[31mred\x07\u202egnp.exe\u2066\ud800\ufffe javascript:alert(4) {{7*7}} ${x} " + "W" * 5000
)


def made_measurements(names: dict[str, str] | None = None) -> pa.Table:
    """Four scales, three budgets, three seeds on the smallest; `names` renames the datasets."""
    names = names or {name: name for name in LEVELS}
    noise = np.random.default_rng(7)
    rows = []
    for dataset, level in LEVELS.items():
        for scale, params in SCALES.items():
            for seed in range(3 if scale == "0.2M" else 1):
                shift = noise.normal(0, 0.004)
                for budget in (5, 10, 20):
                    tokens = params * budget
                    flops = 6 * params * tokens
                    row = {
                        "run_id": f"{dataset}-{scale}-{seed}", "dataset": names[dataset], "scale": scale,
                        "params": params, "params_non_embedding": params * 0.7, "tokens": tokens,
                        "unique_tokens": 5e7, "flops": flops, "flops_convention": "6ND", "seed": seed,
                        "error": 0.01, "lower_is_better": True, "cooled_down": True, "procedure": "p0",
                        "evaluation": "e0", "dataset_fingerprint": f"f-{dataset}",
                        "hyperparameters": json.dumps({"learning_rate": 0.004, "seconds": 12.5}),
                    }  # fmt: skip
                    values = {}
                    for place, heldout in enumerate(("wiki", "books", "code")):
                        lead = -level if heldout == "code" and dataset != "raw" else level
                        base = 0.9 + 0.1 * place + 26 * flops**-0.115
                        values[f"bits_per_byte/{heldout}"] = base + lead + shift + noise.normal(0, 0.002)
                    values["bits_per_byte"] = float(np.mean(list(values.values())))
                    rows += [row | {"metric": metric, "value": value} for metric, value in values.items()]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def made_curves(names: dict[str, str] | None = None) -> pa.Table:
    """A trunk and two decay branches a run."""
    names = names or {name: name for name in LEVELS}
    rows = []
    for dataset, level in LEVELS.items():
        for scale, params in SCALES.items():
            same = {"run_id": f"{dataset}-{scale}-0", "dataset": names[dataset], "scale": scale, "seed": 0}
            for phase, start in (("trunk", 1), ("branch-5", 400), ("branch-20", 700)):
                for step in range(start, start + (1000 if phase == "trunk" else 150), 3):
                    loss = 2.2 + level + 6 * step**-0.4 - (0.0004 * (step - start) if phase != "trunk" else 0)
                    point = {"phase": phase, "step": step, "tokens": step * params / 100, "loss": loss}
                    rows.append(same | point | {"learning_rate": 0.004})
    return pa.Table.from_pylist(rows)


@cache
def made_verdict() -> Any:
    """The real comparison of `made_measurements()`."""
    from curate.comparator import compare

    return compare(made_measurements(), metric="bits_per_byte", at=[1e14, 1e16], seed=0, bootstraps=100)


def made_dataset(name: str, *, text: str = "Some text of a page.", word: str = "gopher_quality") -> DatasetContent:
    """A funnel of five steps; `text` stands wherever text of a page goes, `word` where names of rules and steps go."""
    funnel = [
        _row("read warc", 1000, 990, size=9e6, failed=10),
        _row("extract", 990, 980, size=2.4e6, rules={"extract.empty": 10}),
        _row("language", 980, 700, size=2.0e6, rules={"language.other": 280}),
        _row(word, 700, 520, size=1.6e6, rules={f"{word}.words": 120, f"{word}.alphabetic": 60}, edited=40),
        _row("minhash", 520, 450, size=1.4e6, duplicates=70, rules={"minhash": 70}),
    ]
    sample = {
        "key": "00ff",
        "id": f"id {text[:60]}",
        "url": f"javascript:{text}",
        "text": text,
        "value": 41.0,
        "threshold": 50.0,
        "survivor": None,
        "error": None,
    }
    failure = sample | {"value": None, "threshold": None, "error": f"broken member: {text}"}
    counts = [3, *np.random.default_rng(1).poisson(14, 48).tolist(), 9]
    words = {"signal": f"{word}.words", "low": 0.0, "high": 200.0, "at_least": 50.0, "at_most": 180.0}
    shares = {"signal": f"{word}.share", "low": 0.0, "high": 1.0, "at_least": 0.8, "at_most": None}
    example = DuplicateContent(
        id="a",
        url="https://a.example/",
        text=f"one two three {text}",
        survivor_id="b",
        survivor_url="https://b.example/",
        survivor_text=f"one 2 three {text}",
        similarity=0.87,
    )
    card = {"kind": "fasttext", "held_out": {"auc": 0.987, "precision": 0.95}, "note": text}
    return DatasetContent(
        name=name,
        fingerprint="ab" * 16,
        documents=450,
        text_bytes=1_400_000,
        tokens=410_000,
        funnel=funnel,
        histograms={
            f"{word}.words": words | {"counts": counts},
            f"{word}.alphabetic": shares | {"counts": counts[::-1]},
        },
        samples={
            "read warc.failed": [failure],
            f"{word}.words": [sample, sample | {"id": "second"}],
            f"{word}.alphabetic": [sample],
        },
        duplicates=[example],
        artifacts={"quality": {"fingerprint": "cd" * 16, "card": card}},
        stages=[
            _stage("read warc+extract", "s1", 1000, 980, {"extract": 20.0}, ignored={"request": 1000}),
            _stage(
                "minhash", f"s2-{name}", 520, 450, {"minhash": 4.0}, summary={"clusters": 41, "candidate_pairs": 260}
            ),
        ],
        steps=[
            {"name": "extract", "parameters": {"with": "resiliparse"}},
            {"name": word, "parameters": {"min_words": 50, "text": text}},
        ],
    )


def _stage(
    label: str,
    fingerprint: str,
    before: int,
    after: int,
    seconds: dict[str, float],
    *,
    ignored: dict[str, int] | None = None,
    summary: dict[str, int] | None = None,
) -> dict[str, Any]:
    return {
        "label": label,
        "fingerprint": fingerprint,
        "records_in": before,
        "records_out": after,
        "wall_seconds": 12.0,
        "step_seconds": seconds,
        "ignored": ignored or {},
        "summary": summary or {},
    }


def _row(
    step: str,
    before: int,
    after: int,
    *,
    size: float,
    rules: dict[str, int] | None = None,
    edited: int = 0,
    duplicates: int = 0,
    failed: int = 0,
) -> dict[str, Any]:
    fates = {"duplicate": duplicates, "failed": failed, "dropped": before - after - duplicates - failed}
    return {
        "step": step,
        "in": before,
        "in_bytes": int(size * 1.2),
        "out": after,
        "out_bytes": int(size),
        "edited": edited,
        "edited_bytes": edited * 100,
        "fates": {fate: number for fate, number in fates.items() if number},
        "rules": rules or {},
    }


def made_study() -> StudyContent:
    """Plain names and texts."""
    return StudyContent(
        name="which-recipe",
        version="0.1.0",
        created="2025-01-02T03:04:05+00:00",
        datasets=[made_dataset(name) for name in ("raw", "heuristics", "full")],
        measurements=made_measurements(),
        curves=made_curves(),
        verdict=made_verdict(),
        facts={"ladder": "demo", "procedure": "p0", "tokenizer": "t0", "seeds": "3 on 0.2M"},
    )


def made_hostile_study() -> StudyContent:
    """Hostile text in every field that data can reach."""
    names = {name: f"{name} {HOSTILE}".replace("\ud800", "") for name in LEVELS}
    told = _renamed(made_verdict(), names)
    return StudyContent(
        name=HOSTILE,
        version=HOSTILE,
        created=HOSTILE,
        datasets=[made_dataset(names[name], text=HOSTILE, word=HOSTILE) for name in ("raw", "heuristics", "full")],
        measurements=made_measurements(names),
        curves=made_curves(names),
        verdict=dataclasses.replace(told, notes=(HOSTILE,), rule=HOSTILE),
        facts={HOSTILE: HOSTILE},
    )


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """A copy of nested frozen dataclasses with the datasets' names replaced, and hostile words in every message."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = {item.name: _renamed(getattr(value, item.name), names) for item in dataclasses.fields(value)}
        for field in ("message", "remedy", "source", "formula", "estimator", "run_id"):
            if field in given:
                given[field] = f"{given[field]} {HOSTILE}"
        return dataclasses.replace(value, **given)
    if isinstance(value, tuple | list):
        return type(value)(_renamed(each, names) for each in value)
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    return names.get(value, value) if isinstance(value, str) else value


@pytest.fixture
def study() -> StudyContent:
    return made_study()


@pytest.fixture
def hostile() -> StudyContent:
    return made_hostile_study()


@pytest.fixture
def hostile_text() -> str:
    return HOSTILE


@pytest.fixture
def measurements() -> pa.Table:
    return made_measurements()


@pytest.fixture
def curves() -> pa.Table:
    return made_curves()


@pytest.fixture
def verdict() -> Any:
    return made_verdict()
