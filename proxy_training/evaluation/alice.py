"""Variation spread: one simple problem in varied numbers, and how much the rate of right answers depends on them.

After AIW, Alice in Wonderland (Nezhurina et al. 2024): a model that reasons answers all variations of a template alike;
strong models were found to swing between 0 and 1. A trial is one wording (another name, another order), its answer the
likeliest of the candidate numbers, or what is sampled with a seed and read up to the first number. Rates have Wilson's
interval; the spread is the standard deviation of the rates over variations, without what the trials' chance adds.
Expect the floor below 1B parameters: there the controls say whether a model reads the numbers at all.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from curate.errors import InputError
from curate.fingerprints import fingerprint, seed_of
from curate.proxy_training.evaluation.evaluators import MetricRow
from curate.proxy_training.evaluation.generation import generate
from curate.proxy_training.evaluation.likelihood import Continuations, continuations, encode_pairs, likelihoods
from curate.proxy_training.evaluation.multiple_choice import points_for_best
from curate.proxy_training.evaluation.task_items import FOLDER, checked_spec, rows_of_file
from curate.proxy_training.tokens.tokenizer import end_of_text

if TYPE_CHECKING:
    from curate.proxy_training.model import Proxy

ALICE = "likeliest candidate or first number sampled; Wilson 95%; spread without the noise of trials; v1"
Z = 1.959964
BOOTSTRAPS = 1000
SINGLE_DIGITS = range(1, 10)


class AliceSpec(BaseModel):
    """What a study may ask: `{task: aiw, trials: 30}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field("aiw", pattern=r"^[\w.\-]+$")
    """What the metrics call it."""
    prompts: Literal["own", "published"] | Path = "own"
    """Our templates, AIW's prompts, or a JSONL or Parquet file with `template`, `variation`, `prompt`, `answer`."""
    method: Literal["likelihood", "sampling"] = "likelihood"
    """`likelihood` works for the smallest models."""
    trials: int = Field(30, gt=1, le=10_000)
    """For each variation."""
    temperature: float = Field(1.0, ge=0)
    """Of sampling."""
    max_tokens: int = Field(16, gt=0)
    """Sampled for an answer at most."""
    seed: int = 0
    """Of the wordings and of sampling."""


def alice_spec(asked: str | Mapping[str, Any]) -> AliceSpec | None:
    """`aiw`, or a mapping of AliceSpec's fields whose task is `aiw` or that names `prompts`; None for another task.

    Raises RecipeError naming the field.
    """
    settings = {"task": asked} if isinstance(asked, str) else dict(asked)
    if settings.get("task") != "aiw" and "prompts" not in settings:
        return None
    return checked_spec(AliceSpec, settings)


@dataclass(frozen=True)
class Problem:
    """One trial."""

    template: str
    """What is asked."""
    variation: str
    """In which numbers."""
    prompt: str
    """The text, up to the answer."""
    answer: int
    """The right one."""


@dataclass(frozen=True)
class VariationSpread:
    """Trials of all templates and variations, an Evaluator."""

    spec: AliceSpec
    """What was asked."""
    problems: tuple[Problem, ...]
    """One a trial."""
    candidates: tuple[int, ...]
    """Numbers among which the likeliest is taken."""
    scored: Continuations
    """Every candidate after every prompt."""
    prompts: tuple[tuple[int, ...], ...]
    """Tokens of each prompt."""
    tokenizer: Tokenizer
    """Turns samples into text."""
    notes: tuple[str, ...]
    """What was cut, and what to expect."""

    @property
    def name(self) -> str:
        """What the metrics call it."""
        return self.spec.task

    def fingerprint(self) -> str:
        """Hash of the tokens, the answers, how they are asked for, and the metric's version."""
        asked = self.spec.model_dump(mode="json", exclude={"prompts", "task"})
        trials = [[one.template, one.variation, one.answer] for one in self.problems]
        return fingerprint([ALICE, asked, trials, self.candidates, self.scored.digest()])

    def measure(self, model: "Proxy") -> list[MetricRow]:
        """For each template `<name>_rate/<template>`, `<name>_spread/<template>` and, for each variation,
        `<name>_rate_by_variation/<template>/<variation>`."""
        right = self._by_likelihood(model) if self.spec.method == "likelihood" else self._by_sampling(model)
        chance = 1 / len(self.candidates) if self.spec.method == "likelihood" else None
        rows = []
        for template in dict.fromkeys(one.template for one in self.problems):
            trials: dict[str, list[float]] = {}
            for one, point in zip(self.problems, right, strict=True):
                if one.template == template:
                    trials.setdefault(one.variation, []).append(point)
            of_variations = [np.array(points) for points in trials.values()]
            by_variation = [
                _rate(f"{self.name}_rate_by_variation/{template}/{variation}", points, chance)
                for variation, points in zip(trials, of_variations, strict=True)
            ]
            rows += [
                MetricRow(
                    f"{self.name}_rate/{template}",
                    float(np.mean([row.value for row in by_variation])),
                    float(np.linalg.norm([row.error or 0.0 for row in by_variation])) / len(by_variation),
                    chance,
                    False,
                    sum(map(len, of_variations)),
                    item_values=np.concatenate(of_variations),
                ),
                _spread(f"{self.name}_spread/{template}", of_variations, seed=self.spec.seed),
                *by_variation,
            ]
        return rows

    def _by_likelihood(self, model: "Proxy") -> np.ndarray:
        scores = -likelihoods(model, self.scored).nats
        points = points_for_best(scores, np.repeat(np.arange(len(self.problems)), len(self.candidates)))
        places = [self.candidates.index(one.answer) for one in self.problems]
        return points.reshape(len(self.problems), -1)[np.arange(len(self.problems)), places]

    def _by_sampling(self, model: "Proxy") -> np.ndarray:
        seeds = [
            seed_of([self.spec.seed, one.template, one.variation, trial]) for trial, one in enumerate(self.problems)
        ]
        made = generate(
            model,
            self.prompts,
            max_tokens=self.spec.max_tokens,
            end=end_of_text(self.tokenizer),
            temperature=self.spec.temperature,
            seeds=seeds,
            finished=lambda tokens: re.search(r"\d\D", self.tokenizer.decode(tokens)) is not None,
        )
        numbers = [re.search(r"-?\d+", self.tokenizer.decode(tokens)) for tokens in made]
        return np.array(
            [
                float(found is not None and found[0] == str(one.answer))
                for found, one in zip(numbers, self.problems, strict=True)
            ]
        )


def wilson(right: float, trials: int) -> tuple[float, float]:
    """Wilson's 95% interval of a rate (Wilson 1927)."""
    rate, weight = right / trials, Z * Z / trials
    middle = (rate + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * np.sqrt(rate * (1 - rate) / trials + weight / (4 * trials))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _rate(metric: str, points: np.ndarray, chance: float | None) -> MetricRow:
    """The rate of one variation; its error is Wilson's, which is none of a rate of 0 or 1 measured without error."""
    low, high = wilson(float(points.sum()), len(points))
    error = (high - low) / (2 * Z)
    return MetricRow(metric, float(points.mean()), error, chance, False, len(points), (low, high), points)


def _spread(metric: str, of_variations: Sequence[np.ndarray], *, seed: int) -> MetricRow:
    """Standard deviation of the rates, with the bootstrap's error over trials where a variation has several."""
    error = None
    if all(len(points) > 1 for points in of_variations):
        chance = np.random.default_rng(seed)
        again = [chance.choice(points, (BOOTSTRAPS, len(points))) for points in of_variations]
        error = float(np.std(_excess_deviation(again)))
    value = float(_excess_deviation([points[None] for points in of_variations])[0])
    return MetricRow(metric, value, error, None, True, sum(map(len, of_variations)))


def _excess_deviation(of_variations: Sequence[np.ndarray]) -> np.ndarray:
    """Each (repeats, trials) to (repeats,): root of the rates' variance less what the trials alone bring."""
    rates = np.stack([points.mean(1) for points in of_variations])
    noise = [
        points.var(1, ddof=1) / points.shape[1] if points.shape[1] > 1 else np.zeros(len(points))
        for points in of_variations
    ]
    variance = rates.var(0, ddof=1) if len(rates) > 1 else np.zeros(rates.shape[1])
    return np.sqrt(np.maximum(0.0, variance - np.mean(noise, axis=0)))


def load_alice(spec: AliceSpec, *, tokenizer: Tokenizer, sequence_length: int) -> VariationSpread:
    """The evaluator for models of `sequence_length`. Raises InputError for a file that cannot be used."""
    problems = tuple(_own(spec) if spec.prompts == "own" else _published(spec))
    candidates = tuple(sorted({*SINGLE_DIGITS, *(one.answer for one in problems)}))
    pairs = encode_pairs(
        tokenizer,
        [(one.prompt, f" {number}") for one in problems for number in candidates],
        first=end_of_text(tokenizer),
    )
    scored = continuations(pairs, sequence_length=sequence_length)
    cut = int((scored.cut.reshape(len(problems), -1).max(1) > 0).sum())
    notes = [
        f"{spec.task}: rates near the floor are expected below 1B parameters; then the spread says nothing, and the "
        "controls say whether the model reads the numbers."
    ]
    if cut:
        notes.append(
            f"{spec.task}: {cut} of {len(problems)} prompts are longer than the window of {sequence_length} tokens; "
            "they were cut from the left."
        )
    prompts = tuple(tuple(context) for context, _ in pairs[:: len(candidates)])
    return VariationSpread(spec, problems, candidates, scored, prompts, tokenizer, tuple(notes))


@cache
def _templates() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "alice.yaml").read_text(encoding="utf-8"))


def _own(spec: AliceSpec) -> Iterator[Problem]:
    """Our templates in all variations, each trial with a name of its own as long as names last."""
    written = _templates()
    for template, row in written["templates"].items():
        chance = np.random.default_rng(seed_of([spec.seed, template]))
        names = np.concatenate([chance.permutation(written["names"]) for _ in range(spec.trials)])[: spec.trials]
        for numbers in written["variations"]:
            first, second = (
                f"{number} {noun[number != 1]}" for number, noun in zip(numbers, row["nouns"], strict=True)
            )
            a, b, c = row["answer"]
            answer = a * numbers[0] + b * numbers[1] + c
            for name in names:
                text = row["text"].format(name=name, first=first, second=second)
                yield Problem(template, f"{numbers[0]}-{numbers[1]}", f"Question: {text}\nAnswer:", answer)


def _published(spec: AliceSpec) -> Iterator[Problem]:
    """Prompts of a table, each `trials` times to be sampled, once for its likelihood."""
    if spec.prompts == "published":
        rows: Any = pq.read_table(FOLDER / "aiw.parquet").to_pylist()
    else:
        assert isinstance(spec.prompts, Path)
        rows = rows_of_file(spec.prompts)
    for number, row in enumerate(rows):
        where = f"{spec.prompts}, row {number}"
        missing = [key for key in ("template", "variation", "prompt", "answer") if row.get(key) in (None, "")]
        if missing:
            raise InputError(f"{where}: no {' and no '.join(missing)}; a prompt needs them.")
        if not re.fullmatch(r"\d{1,6}", str(row["answer"])):
            raise InputError(f"{where}: the answer {json.dumps(row['answer'])} is no whole number.")
        for _ in range(spec.trials if spec.method == "sampling" else 1):
            yield Problem(
                str(row["template"]), str(row["variation"]), f"{row['prompt']}\n### Answer:", int(row["answer"])
            )
