"""The one procedure under which all datasets of a study are measured: rules by scale, and their fingerprint.

Everything that changes what a loss means is a field here, whatever the dataset; two measurements compare only when
their procedures have the same fingerprint. Rules take N = blocks + norms + V d, the size that gave stable fits.
Learning rate and batch follow DataDecide's laws (.0047 (N/108M)^(-1/3); 160 sequences of 2,048 tokens (N/108M)^(2/3);
Magnusson et al. 2025, after Porian et al. 2024). Small budgets want smaller batches than that law's (1,024 tokens beat
2,048 by .05 bits per byte at .06M and .4M parameters after .3M tokens); the root of the batch then carries the learning
rate over: best of a sweep at 1,024 tokens were .02 to .03 at .06M, .01 at .4M; the rule gives .02 (its bound), .0104.
Warm-up, stable trunk, linear decay over the last 20% of every budget: open-sci-ref; Hägele et al. 2024.
"""

import platform
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curate.fingerprints import fingerprint
from curate.proxy_training.packing import PACKING

ARCHITECTURE = "decoder; RMSNorm before blocks, rotary, SwiGLU; init N(0, 1/columns), outputs depth-scaled; v1"
METRIC = "bits per byte: float64 nats of text tokens / UTF-8 bytes / ln 2; windows of T inside a document; fp32; v1"
REFERENCE_PARAMS = 108e6


class Rules(BaseModel):
    """What a ladder file may set under `procedure`; the defaults are the measured ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tied: bool = True
    """One matrix for embedding and head."""
    bias: bool = False
    """Biases in the linear layers."""
    qk_norm: bool = True
    """RMSNorm on queries and keys."""
    rope_theta: float = Field(10_000.0, gt=1)
    """Base of the rotary frequencies."""
    norm_eps: float = Field(1e-5, gt=0)
    """Added to the mean square in every norm."""
    learning_rate_at_108m: float = Field(0.0047, gt=0)
    """Peak learning rate of a model of 108M parameters."""
    learning_rate_exponent: float = Field(-1 / 3, le=0)
    """Power of N / 108M in the learning rate."""
    learning_rate_max: float = Field(0.02, gt=0)
    """Bound of the learning rate for the smallest models."""
    batch_tokens_at_108m: float = Field(160 * 2048, gt=0)
    """Batch of a model of 108M parameters, in tokens."""
    batch_exponent: float = Field(2 / 3, ge=0)
    """Power of N / 108M in the batch."""
    batch_tokens_min: int = Field(1024, gt=0)
    """Smallest batch, in tokens."""
    batch_tokens_max: int = Field(2**22, gt=0)
    """Largest batch, in tokens."""
    warmup_fraction: float = Field(0.1, ge=0, le=0.5)
    """Warm-up lasts N tokens, but at most this part of the smallest budget of the scale."""
    decay_fraction: float = Field(0.2, gt=0, lt=1)
    """Part of every budget over which the learning rate falls linearly to zero."""
    weight_decay: float = Field(0.05, ge=0)
    """AdamW's decoupled decay, on the matrices of the blocks and an untied head only."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW, first moment."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """AdamW, second moment."""
    adam_eps: float = Field(1e-8, gt=0)
    """AdamW, added to the root of the second moment."""
    clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    z_loss: float = Field(1e-4, ge=0)
    """Weight of the mean squared log of the softmax's normaliser."""


class Procedure(Rules):
    """Rules plus what a ladder and a machine settle. Immutable; equal fingerprints mean comparable losses."""

    tokenizer: str
    """Fingerprint of the tokenizer."""
    sequence_length: int = Field(gt=1)
    """T: positions of a training sequence."""
    precision: Literal["fp32", "bf16"]
    """Matrix products in training; evaluation is always fp32."""
    compile: Literal["eager", "blocks"]
    """How the blocks run; compiled kernels round differently, so it is part of the procedure."""
    architecture: str = ARCHITECTURE
    """What the model is, apart from its shape."""
    packing: str = PACKING
    """How sequences are made of documents."""
    metric: str = METRIC
    """What bits per byte mean."""

    def fingerprint(self) -> str:
        """Hash of all fields."""
        return fingerprint(self.model_dump())

    def learning_rate(self, params: int, *, batch_tokens: int) -> float:
        """Peak learning rate of a model of N = `params`: the law, times the root of the batch's part of its law."""
        law = self.learning_rate_at_108m * (params / REFERENCE_PARAMS) ** self.learning_rate_exponent
        return min(self.learning_rate_max, law * (batch_tokens / self._batch_law(params)) ** 0.5)

    def batch_sequences(self, params: int) -> int:
        """Sequences in a batch for a model of N = `params`."""
        tokens = min(self.batch_tokens_max, max(self.batch_tokens_min, self._batch_law(params)))
        return max(1, round(tokens / self.sequence_length))

    def _batch_law(self, params: int) -> float:
        return self.batch_tokens_at_108m * (params / REFERENCE_PARAMS) ** self.batch_exponent

    def warmup_steps(self, params: int, *, batch_tokens: int, smallest_budget_tokens: int) -> int:
        """Steps of linear warm-up; at least one."""
        return max(1, round(min(params, self.warmup_fraction * smallest_budget_tokens) / batch_tokens))

    def decay_start(self, steps: int) -> int:
        """First step of the cool-down of a training of `steps` steps."""
        return steps - max(1, round(self.decay_fraction * steps))


def scheduled_learning_rate(
    step: int, *, peak: float, warmup_steps: int, decay: tuple[int, int] | None = None
) -> float:
    """Learning rate of the step with index `step` (0-based): warm-up to `peak`, stable, then linear towards zero.

    `decay` is (first step of the cool-down, number of steps of the whole training), or None on the trunk.
    """
    rate = peak * min(1.0, (step + 1) / warmup_steps)
    if decay is None or step < decay[0]:
        return rate
    start, end = decay
    return rate * (end - step) / (end - start + 1)


def settle_precision(wanted: str, *, compiled: bool) -> Literal["fp32", "bf16"]:
    """`auto` is bf16 where the processor multiplies it in hardware and the blocks are compiled, else fp32.

    Measured: eager bf16 loses to eager fp32 below 1M parameters (casts), compiled bf16 wins from .3M on.
    Decided by what the machine is, never by a timing, so that the same machine always settles the same
    procedure.
    """
    if wanted == "bf16" or (wanted == "auto" and compiled and _has_bf16_products()):
        return "bf16"
    return "fp32"


def _has_bf16_products() -> bool:
    if platform.system() != "Linux":
        return False
    with open("/proc/cpuinfo") as file:
        flags = next((line for line in file if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags
