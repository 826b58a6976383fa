"""Simulated epochs: a proxy repeats its data as often as the whole dataset would be repeated at a stated target.

At 20T tokens a filtered set of 1T is seen 20 times, a raw one of 40T half a time; a proxy that trains on 1B tokens of
either sees each once, and severe filters look free. So a run whose longest branch trains on D tokens draws from only
U' = D x full / target of them, the first of the packed file, a random sample of its documents: D / U' = target / full.
The smaller budgets of the run leave the same trunk earlier and repeat less, in proportion. Known as simulated epoching
(Marin, Levanter) and repetition-controlled subsampling (Zhou et al. 2026, arXiv 2606.07597). No torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from curate.errors import RecipeError
from curate.proxy_training.run import Run


@dataclass(frozen=True)
class SimulatedEpochs:
    """What a study's `simulate_epochs` and `full_tokens` say."""

    target_tokens: float
    """Tokens of the training that is meant."""
    full_tokens: Mapping[str, float] = field(default_factory=dict)
    """Tokens that a dataset holds in whole, by name, where its files are a sample; by default what was packed."""

    def epochs(self, dataset: str, packed_tokens: int | None) -> float | None:
        """How often the target sees the whole dataset; None where neither its tokens nor `full_tokens` are known."""
        full = self.full_tokens.get(dataset, packed_tokens)
        return None if full is None else self.target_tokens / full

    def drawn_from(self, dataset: str, packed_tokens: int | None, *, longest_tokens: int) -> float | None:
        """U' of a run whose longest branch has `longest_tokens`; None where the target repeats nothing, as far as it is
        known."""
        epochs = self.epochs(dataset, packed_tokens)
        return longest_tokens / epochs if epochs is not None and epochs > 1 else None

    def trouble(self, run: Run) -> str | None:
        """Why nothing can be simulated with a run, as far as it is known without data: the target is smaller than it,
        or less than a sequence of a dataset with known `full_tokens` would be left."""
        found = (self._too_few(run, name, full) for name, full in self.full_tokens.items())
        return self._too_short(run) or next(filter(None, found), None)

    def _too_short(self, run: Run) -> str | None:
        longest = run.longest_tokens
        if self.target_tokens >= longest:
            return None
        return (
            f"the target of {self.target_tokens:,.0f} tokens is below the {longest:,} that rung {run.scale.name} "
            "trains on; name a larger one."
        )

    def _too_few(self, run: Run, dataset: str, full_tokens: float) -> str | None:
        longest, sequence = run.longest_tokens, run.procedure.sequence_length + 1
        wanted, epochs = longest * full_tokens / self.target_tokens, self.target_tokens / full_tokens
        if epochs <= 1 or wanted >= sequence:
            return None
        return (
            f"rung {run.scale.name} would draw from {wanted:,.0f} tokens of {dataset}, less than one sequence of "
            f"{sequence}: {epochs:,.0f} epochs cannot be simulated with {longest:,} tokens."
        )

    def applied(self, run: Run) -> Run:
        """The run with its dataset cut down; where the target repeats nothing, it stays the run that it is.

        Raises RecipeError where the target is smaller than the run, where the sample is too small, or too little of it
        would be left.
        """
        name, there, longest = run.dataset.name, run.dataset.tokens, run.longest_tokens
        full = self.full_tokens.get(name, there)
        if trouble := self._too_short(run):
            raise RecipeError(f"simulate_epochs: {trouble}")
        if full < there:
            raise RecipeError(
                f"simulate_epochs: {name} holds {there:,} tokens here, more than the {full:,.0f} that `full_tokens` "
                "says of all of it."
            )
        if trouble := self._too_few(run, name, full):
            raise RecipeError(f"simulate_epochs: {trouble}")
        wanted = self.drawn_from(name, there, longest_tokens=longest)
        needed = longest if wanted is None else wanted
        if needed > there:
            raise RecipeError(
                f"simulate_epochs: {run.name} needs {needed:,.0f} different tokens to see them as often as "
                f"{self.target_tokens:,.0f} would see all of {name}, and {there:,} are here; give a larger sample."
            )
        if wanted is None:
            return run
        return replace(run, drawn_from_tokens=int(wanted))
