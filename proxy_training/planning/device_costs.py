"""What a model costs a device: tokens a second, memory, money.

Times on a CPU core come from a table measured with one-thread processes; those on a GPU from its peak and the share of
it that training reaches (the A100's as open-sci-ref measured them). No torch here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from curate.proxy_training.network.shape import ModelShape

CPU_TOKENS_PER_SECOND: Mapping[str, tuple[tuple[float, float], ...]] = {
    "fp32": ((5.5e5, 41_000), (1.81e6, 14_300), (4.28e6, 9_600), (9.54e6, 5_500), (2.84e7, 2_100), (9.2e7, 750)),
    "bf16": ((1.81e6, 44_000), (4.28e6, 26_500), (9.54e6, 15_000), (2.84e7, 6_800), (9.2e7, 2_900)),
}
"""(exact FLOPs a token, tokens a second) of one thread of a Xeon with AVX-512 and AMX at sequence 256, both cores
busy: eager float32; compiled bfloat16 as examples/which_text trained (the last point: benchmarks/training)."""
BYTES_PER_PARAM = 16
"""Float32 weights, gradients and both moments of AdamW."""
GPU_CONTEXT_BYTES = 700 << 20
"""CUDA, its libraries and torch before anything is computed."""
LOGITS_TOKENS = 4096
"""Tokens whose logits are held at once, at most: the loss works in chunks."""


@dataclass(frozen=True)
class Device:
    """A device to plan for."""

    name: str
    """As it is asked for."""
    peak_flops: float
    """Dense bfloat16 matrix products, a second; 0 for a CPU core, whose rates are measured."""
    shares: tuple[tuple[float, float], ...] = ()
    """(N, share of the peak that training reaches), rising in N."""
    dollars_per_hour: float = 0.0
    """Price of one for an hour."""
    source: str = ""
    """Where shares and price come from."""

    def share(self, params: int) -> float:
        """Share of the peak at N = `params`: between the points linear in log N; below the first by the root of N, as
        small matrices leave a GPU waiting."""
        first, last = self.shares[0], self.shares[-1]
        if params <= first[0]:
            return first[1] * math.sqrt(params / first[0])
        if params >= last[0]:
            return last[1]
        return _between(self.shares, params, log_values=False)


DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        Device("cpu", 0.0, source="one core; table measured with one-thread processes"),
        Device(
            "a100",
            312e12,
            ((0.125e9, 0.365), (0.404e9, 0.503), (1.31e9, 0.551), (1.71e9, 0.590)),
            2.0,
            "shares measured by open-sci-ref (114, 157, 172, 184 TFLOP/s); smaller ones and the price assumed",
        ),
        Device(
            "h100",
            989e12,
            (
                (4.2e6, 0.12),
                (1.06e7, 0.196),
                (2.5e7, 0.237),
                (6e7, 0.311),
                (0.125e9, 0.328),
                (0.404e9, 0.413),
                (1.31e9, 0.451),
                (1.71e9, 0.472),
                (6.68e9, 0.453),
            ),
            3.0,
            "shares measured up to 1.7B (benchmarks/training/gpu.json; the three smallest with four processes on the "
            "GPU), and by DCLM at 7B (3,700 hours); the price assumed",
        ),
    )
}


def cpu_tokens_per_second(shape: ModelShape, *, precision: Literal["fp32", "bf16"]) -> float:
    """Of one core, from the measured table; power laws between its points and beyond its ends."""
    return _between(CPU_TOKENS_PER_SECOND[precision], shape.flops_per_token_exact, log_values=True)


def memory_bytes(
    shape: ModelShape, *, tokens_at_once: int, shards: int = 1, bf16: bool = True, recompute: bool = False
) -> float:
    """An estimate of what one process holds: weights, gradients and moments in float32 (cut over `shards`), what the
    backward pass needs of a micro batch of `tokens_at_once` tokens, and the loss's chunk of logits and its gradients.

    A block keeps about 10 d + 3 FFN numbers a token (norms, queries, keys, values, attention's output, gate, up, their
    product, residuals); with `recompute` only its input, and one block whole.
    """
    states = BYTES_PER_PARAM * shape.params_stored / shards
    width = 2 if bf16 else 4
    block = (10 * shape.width + 3 * shape.ffn) * width
    blocks = shape.layers * shape.width * width + block if recompute else shape.layers * block
    logits = min(tokens_at_once, LOGITS_TOKENS) * 10 * shape.vocab_size
    loss = logits + 4 * (tokens_at_once * shape.width + shape.parameters_embedding)
    return GPU_CONTEXT_BYTES * bf16 + states + tokens_at_once * blocks + loss


def _between(points: Sequence[tuple[float, float]], x: float, *, log_values: bool) -> float:
    """Linear in log x through `points`, in log y too if `log_values`; the end pieces go on beyond the ends."""
    place = next((i for i, (at, _) in enumerate(points[1:-1], start=1) if x < at), len(points) - 1)
    (x0, y0), (x1, y1) = points[place - 1], points[place]
    part = math.log(x / x0) / math.log(x1 / x0)
    return y0 * (y1 / y0) ** part if log_values else y0 + (y1 - y0) * part
