"""What the benchmarks of the procedure share: real text packed once, and many small runs trained side by side.

`Bench(folder)` packs a neutral mixture (equal shares of four sources of ../shared/data/text) and three held-out sets.
`Bench.losses(runs)` trains runs of one shape as one stack and returns the mean bits per byte of each at each of its
budgets; `hand_in` prints and writes a result with its machine. The loop here is the plain form of the trainer's:
float32, eager, no checkpoints, its own AdamW (Loshchilov and Hutter 2019) with a learning rate a member; so a change of
the trainer changes no stored figure.
"""

import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from curate.proxy_training.evaluate import evaluation_fingerprint, load_heldout, score
from curate.proxy_training.model import Proxy
from curate.proxy_training.network.parametrisation import Parametrisation
from curate.proxy_training.packing import Sequences, pack_dataset
from curate.proxy_training.planning.ladder_file import Scale
from curate.proxy_training.procedure import Procedure
from curate.proxy_training.run import Run
from curate.proxy_training.tokens.tokenizer import load_tokenizer, train_tokenizer

TEXT = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"
SOURCES = ("textbooks", "docs_peps", "wiki_en", "news_reuters")
TRAIN_CHARACTERS = 1_200_000  # of each source: about 1.5M tokens in all
HELDOUT_CHARACTERS = 120_000
VOCABULARY = 1024
SEQUENCE_LENGTH = 128


class Bench:
    """Text, tokenizer and held-out sets in a folder; trains runs on them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        train, heldout = [], {}
        for source in SOURCES:
            texts = pq.read_table(TEXT / f"{source}.parquet", columns=["text"]).column("text").to_pylist()
            some, rest = _first(texts, TRAIN_CHARACTERS)
            train += some
            if source != "docs_peps":
                held, _ = _first(rest, HELDOUT_CHARACTERS)
                heldout[source] = _write(folder / f"heldout-{source}.parquet", held)
        path = _write(folder / "train.parquet", train)
        tokenizer = folder / "tokenizer.json"
        if not tokenizer.exists():
            train_tokenizer(train, vocab_size=VOCABULARY, path=tokenizer)
        self.packed = pack_dataset(
            [path], name="neutral", fingerprint="neutral-4x1.2M", tokenizer=tokenizer, out=folder / "packed"
        )
        self.heldout = {
            name: load_heldout(
                name,
                [file],
                tokenizer=load_tokenizer(tokenizer),
                sequence_length=SEQUENCE_LENGTH,
                bytes_per_set=60_000,
                bytes_per_document=1_000,
            )
            for name, file in heldout.items()
        }

    def run(self, scale: Scale, seed: int, procedure: dict) -> Run:
        """A run on the mixture under the fields `procedure`."""
        made = Procedure(
            **procedure,
            tokenizer=self.packed.tokenizer_fingerprint,
            sequence_length=SEQUENCE_LENGTH,
            precision="fp32",
            compile="eager",
        )
        return Run(self.packed, scale, seed, made, evaluation_fingerprint(self.heldout))

    def losses(self, runs: Sequence[Run]) -> list[dict[int, float]]:
        """Mean bits per byte by budget of runs that differ in seed and learning rate alone; infinite if diverged."""
        first = runs[0]
        stack = _Stack(runs)
        found: list[dict[int, float]] = [{} for _ in runs]
        for budget in first.scale.budgets_tokens:
            steps = first.steps(budget)
            start = first.procedure.decay_start(steps)
            stack.train(until=start, decay=None)
            trunk = stack.state()
            stack.train(until=steps, decay=(start, steps))
            for member, losses in enumerate(found):
                plain = stack.model.member(member)
                plain.eval()
                values = [score(plain.token_nats, some).bits_per_byte for some in self.heldout.values()]
                mean = sum(values) / len(values)
                losses[budget] = mean if math.isfinite(mean) else math.inf
            stack.restore(trunk)
        return found


class _Stack:
    """Members of one shape in lockstep."""

    def __init__(self, runs: Sequence[Run]) -> None:
        first = runs[0]
        rules = first.procedure
        self.runs = runs
        self.step = 0
        self.parametrisation = Parametrisation.of(first.shape, rules)
        self.model = Proxy(
            first.shape, members=len(runs), z_loss=rules.z_loss, parametrisation=self.parametrisation
        ).initialise([run.initialisation_seed for run in runs])
        self.weights = dict(self.model.named_parameters())
        self.means = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.squares = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.sequences = [Sequences(run.dataset, length=rules.sequence_length, seed=run.order_seed) for run in runs]

    def train(self, *, until: int, decay: tuple[int, int] | None) -> None:
        """Steps up to `until`."""
        first = self.runs[0]
        rules = first.procedure
        while self.step < until:
            batches = [some.batch(self.step * first.batch_sequences, first.batch_sequences) for some in self.sequences]
            minimised, _ = self.model(torch.stack([torch.from_numpy(batch) for batch in batches]))
            minimised.sum().backward()
            rates = torch.tensor(
                [
                    rules.learning_rate_at(
                        self.step, peak=run.learning_rate, warmup_steps=run.warmup_steps, decay=decay
                    )
                    for run in self.runs
                ]
            )
            self.update(rates)
            self.step += 1

    @torch.no_grad()
    def update(self, rates: Tensor) -> None:
        """AdamW with clipping, a rate and a norm for each member."""
        rules = self.runs[0].procedure
        squared = torch.stack([weight.grad.flatten(1).square().sum(1) for weight in self.weights.values()]).sum(0)
        clip = (rules.clip_norm / (squared.sqrt() + 1e-6)).clamp(max=1.0)
        corrections = (1 - rules.beta1 ** (self.step + 1)), (1 - rules.beta2 ** (self.step + 1))
        for name, weight in self.weights.items():
            lead = (-1, *[1] * (weight.ndim - 1))
            gradient = weight.grad * clip.view(lead)
            mean = self.means[name].lerp_(gradient, 1 - rules.beta1)
            square = self.squares[name].mul_(rules.beta2).addcmul_(gradient, gradient, value=1 - rules.beta2)
            rate = (rates * self.parametrisation.learning_rate_multiplier(name)).view(lead)
            decay = rules.weight_decay * self.parametrisation.weight_decay_multiplier(name)
            eps = rules.adam_eps * self.parametrisation.adam_eps_multiplier(name)
            weight.mul_(1 - rate * decay).sub_(
                rate * (mean / corrections[0]) / ((square / corrections[1]).sqrt_().add_(eps))
            )
            weight.grad = None

    def state(self) -> tuple[int, list[Tensor]]:
        """Step and copies of all tensors."""
        return self.step, [tensor.detach().clone() for tensor in self._tensors()]

    def restore(self, state: tuple[int, list[Tensor]]) -> None:
        """Back to `state`."""
        self.step = state[0]
        with torch.no_grad():
            for tensor, kept in zip(self._tensors(), state[1], strict=True):
                tensor.copy_(kept)

    def _tensors(self) -> list[Tensor]:
        return [*self.weights.values(), *self.means.values(), *self.squares.values()]


def hand_in(result: dict, load_before: tuple[float, float, float], out: Path | None) -> None:
    """Print what was found, with the machine that it was found on, and write it to `out`."""
    machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    text = json.dumps({**result, "load_before": load_before, **machine, "torch": torch.__version__}, indent=1)
    print(text)
    if out:
        out.write_text(text + "\n")


def _first(texts: list[str], characters: int) -> tuple[list[str], list[str]]:
    """Documents of about so many characters, and the rest."""
    size = 0
    for count, text in enumerate(texts):
        size += len(text)
        if size >= characters:
            return texts[: count + 1], texts[count + 1 :]
    return texts, []


def _write(path: Path, texts: list[str]) -> Path:
    pq.write_table(pa.table({"id": [f"{path.stem}-{i}" for i in range(len(texts))], "text": texts}), path)
    return path
