"""A run as a value: dataset x scale x seed under a procedure, with everything that follows from them by rule.
No torch here."""

from dataclasses import dataclass
from functools import cached_property

from curate.fingerprints import fingerprint
from curate.proxy_training.ladder_file import Scale
from curate.proxy_training.packing import TokenizedDataset
from curate.proxy_training.procedure import Procedure
from curate.proxy_training.shape import ModelShape

FLOPS_CONVENTION = "6ND"


@dataclass(frozen=True)
class Run:
    """One training; its branches at several budgets belong to it."""

    dataset: TokenizedDataset
    """What it learns from."""
    scale: Scale
    """Shape and budgets."""
    seed: int
    """Of initialisation and data order, drawn apart."""
    procedure: Procedure
    """The rules."""
    evaluation: str
    """Fingerprint of the held-out sets and the metric."""

    @property
    def name(self) -> str:
        """For people: "0.2M of raw, seed 0"."""
        return f"{self.scale.name} of {self.dataset.name}, seed {self.seed}"

    @cached_property
    def fingerprint(self) -> str:
        """Names the run's folder; the same in another clone. The name of the dataset is not part of it."""
        return fingerprint(
            {
                "procedure": self.procedure.fingerprint(),
                "dataset": self.dataset.fingerprint,
                "scale": self.scale.model_dump(exclude={"seeds", "name"}),
                "vocab_size": self.dataset.vocab_size,
                "seed": self.seed,
                "evaluation": self.evaluation,
            }
        )

    @cached_property
    def shape(self) -> ModelShape:
        """The model."""
        scale, rules = self.scale, self.procedure
        return ModelShape(
            vocab_size=self.dataset.vocab_size,
            width=scale.width,
            layers=scale.layers,
            heads=scale.heads,
            ffn=scale.ffn,
            sequence_length=rules.sequence_length,
            tied=rules.tied,
            bias=rules.bias,
            qk_norm=rules.qk_norm,
            rope_theta=rules.rope_theta,
            norm_eps=rules.norm_eps,
        )

    @property
    def initialisation_seed(self) -> int:
        """Seed of the weights: 63 bits of a hash, apart from the order's."""
        return int(fingerprint(["initialisation", self.seed])[:15], 16)

    @property
    def order_seed(self) -> int:
        """Seed of the data order: the same for all scales."""
        return int(fingerprint(["order", self.seed])[:15], 16)

    @property
    def batch_sequences(self) -> int:
        """Sequences in a step."""
        return self.scale.batch_sequences or self.procedure.batch_sequences(self.shape.params)

    @property
    def batch_tokens(self) -> int:
        """Tokens in a step."""
        return self.batch_sequences * self.procedure.sequence_length

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""
        return self.scale.learning_rate or self.procedure.learning_rate(
            self.shape.params, batch_tokens=self.batch_tokens
        )

    @property
    def warmup_steps(self) -> int:
        """Steps of warm-up, shared by all branches."""
        return self.procedure.warmup_steps(
            self.shape.params, batch_tokens=self.batch_tokens, smallest_budget_tokens=self.scale.budgets_tokens[0]
        )

    def steps(self, budget_tokens: int) -> int:
        """Steps of a budget, rounded to whole batches, at least two (one stable, one cooling)."""
        return max(2, round(budget_tokens / self.batch_tokens))

    def tokens(self, budget_tokens: int) -> int:
        """Tokens that a budget really trains on."""
        return self.steps(budget_tokens) * self.batch_tokens

    @property
    def trained_tokens(self) -> int:
        """Tokens of the trunk and all branches together: the work."""
        decays = [
            self.steps(budget) - self.procedure.decay_start(self.steps(budget)) for budget in self.scale.budgets_tokens
        ]
        return (self.procedure.decay_start(self.steps(self.scale.budgets_tokens[-1])) + sum(decays)) * self.batch_tokens

    @property
    def epochs(self) -> float:
        """How often the longest branch sees the dataset."""
        return self.tokens(self.scale.budgets_tokens[-1]) / self.dataset.tokens

    def facts(self) -> dict:
        """What `run.json` says."""
        return {
            "run_id": self.fingerprint,
            "dataset": self.dataset.name,
            "dataset_fingerprint": self.dataset.dataset_fingerprint,
            "unique_tokens": self.dataset.tokens,
            "scale": self.scale.model_dump(mode="json"),
            "seed": self.seed,
            "params": self.shape.params,
            "params_non_embedding": self.shape.params_non_embedding,
            "flops_per_token": self.shape.flops_per_token,
            "flops_per_token_exact": self.shape.flops_per_token_exact,
            "procedure": self.procedure.model_dump(mode="json"),
            "procedure_fingerprint": self.procedure.fingerprint(),
            "evaluation": self.evaluation,
            "learning_rate": self.learning_rate,
            "batch_tokens": self.batch_tokens,
            "warmup_steps": self.warmup_steps,
        }
