"""The one procedure under which all datasets of a study are measured, and its fingerprint.

Everything that changes what a loss means is a field here, whatever the dataset; two measurements compare only when
their procedures have the same fingerprint. Learning rate, batch, warm-up and weight decay follow a named rule by scale
(rules.py), the rates of the steps a schedule (schedule.py): warm-up, stable trunk, linear decay over the last 20% of
every budget (open-sci-ref; Hägele et al. 2024) unless a ladder says otherwise.
"""

import platform
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curate.fingerprints import fingerprint
from curate.proxy_training.network.compiling import CompileMode
from curate.proxy_training.network.shape import NormKind, QkNorm
from curate.proxy_training.packing import PACKING
from curate.proxy_training.planning import schedule as schedules
from curate.proxy_training.planning.rules import RuleConstants, Size
from curate.proxy_training.planning.schedule import DecayShape, Schedule

__all__ = ["METRIC", "Procedure", "Rules", "Size", "Tuned", "settle_precision"]

ARCHITECTURE = "decoder; RMSNorm before blocks, rotary, SwiGLU; init N(0, 1/columns), outputs depth-scaled; v2"
METRIC = "bits per byte: float64 nats of text tokens / UTF-8 bytes / ln 2; windows of T inside a document; fp32; v1"


class Tuned(BaseModel):
    """Where constants come from that `curate train tune` found; changes no loss, so no fingerprint has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ladder: str
    """Name of the ladder that was tuned."""
    rungs: tuple[str, ...]
    """Scales that were swept."""
    seeds: tuple[int, ...]
    """Seeds of each point of the sweeps."""
    mixture: str
    """Fingerprint of the tokens that it was tuned on."""
    evaluation: str
    """Fingerprint of the held-out sets."""
    procedure: str
    """Fingerprint of the procedure before tuning."""
    date: str
    """Day of the tuning, ISO 8601."""


class Rules(RuleConstants):
    """What a ladder file may set under `procedure`: a rule with its constants first; defaults are the measured ones."""

    tied: bool = True
    """One matrix for embedding and head."""
    bias: bool = False
    """Biases in the linear layers."""
    qk_norm: QkNorm | bool = True
    """Norm on queries and keys: `per_head` (also true), `full` over the whole projection, `none` (also false)."""
    norm: NormKind = "rms"
    """`rms`, or `layer`: LayerNorm with a scale and no bias."""
    rope_theta: float = Field(10_000.0, gt=1)
    """Base of the rotary frequencies."""
    norm_eps: float = Field(1e-5, gt=0)
    """Added to the mean square in every norm."""
    document_mask: bool = False
    """Whether attention stays inside a document of a packed sequence."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Part of the activations dropped in training, behind attention and feed-forward."""
    schedule: Schedule = "wsd"
    """`wsd`: budgets branch from one trunk; `cosine`: each budget is a training of its own."""
    decay_fraction: float = Field(0.2, gt=0, lt=1)
    """Part of every budget over which the learning rate falls (wsd)."""
    decay_shape: DecayShape = "linear"
    """How it falls (wsd): linearly, or as 1 - sqrt (Hägele et al. 2024)."""
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
    tuned: Tuned | None = None
    """Where the constants come from, if `curate train tune` found them."""


class Procedure(Rules):
    """Rules plus what a ladder and a machine settle. Immutable; equal fingerprints mean comparable losses."""

    tokenizer: str
    """Fingerprint of the tokenizer."""
    sequence_length: int = Field(gt=1)
    """T: positions of a training sequence."""
    precision: Literal["fp32", "bf16"]
    """Matrix products in training; evaluation is always fp32."""
    compile: CompileMode
    """What is compiled; compiled kernels round differently, so it is part of the procedure."""
    architecture: str = ARCHITECTURE
    """What the model is, apart from its shape."""
    packing: str = PACKING
    """How sequences are made of documents."""
    metric: str = METRIC
    """What bits per byte mean."""

    def fingerprint(self) -> str:
        """Hash of all fields that can change a loss: all but where the constants come from."""
        return fingerprint(self.model_dump(exclude={"tuned"}))

    def batch_sequences(self, size: Size) -> int:
        """Sequences in a batch of a model of `size`."""
        return max(1, round(self.batch_tokens(size) / self.sequence_length))

    def decay_start(self, steps: int) -> int:
        """First step of the cool-down of a training of `steps` steps; 0 under cosine, which shares no trunk."""
        return schedules.decay_start(steps, schedule=self.schedule, decay_fraction=self.decay_fraction)

    def learning_rate_at(
        self, step: int, *, peak: float, warmup_steps: int, decay: tuple[int, int] | None = None
    ) -> float:
        """Learning rate of the step with index `step`; `decay` as in schedule.py, None on the trunk."""
        return schedules.scheduled_learning_rate(
            step,
            peak=peak,
            warmup_steps=warmup_steps,
            decay=decay,
            schedule=self.schedule,
            shape=self.decay_shape,
            final=self.final_learning_rate,
        )


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
