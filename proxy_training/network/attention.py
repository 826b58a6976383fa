"""Causal attention by explicit scores, for short sequences in bfloat16 on a CPU.

torch's fused kernel for CPUs multiplies bfloat16 at a tenth of the processor's rate in its backward pass. Scores that
are written out by compiled kernels, in blocks of queries that read only the keys before them, are faster where
sequences are short; their memory grows with the square of the length, so long ones keep the fused kernel.
"""

import torch
from torch import Tensor

LENGTH_MAX = 512
QUERIES = 128  # a block; scores right of its diagonal block are never made


def prefers_explicit_scores(query: Tensor) -> bool:
    """Whether `explicit_attention` is faster than torch's kernel: decided by what is known when compiling."""
    return (
        torch.compiler.is_compiling()
        and query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[-2] <= LENGTH_MAX
    )


def explicit_attention(
    query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, scale: float | None
) -> Tensor:
    """softmax(scale q k) v over earlier positions for (..., heads, T, d) with as many keys as queries; `mask` is True
    where a token sees."""
    length = query.shape[-2]
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    mixed = []
    for start in range(0, length, QUERIES):
        stop = min(start + QUERIES, length)
        scores = (query[..., start:stop, :] @ key[..., :stop, :].mT).float()
        if mask is None:
            hidden = torch.full((stop - start, stop), float("-inf"), device=query.device).triu(1 + start)
            scores = scores + hidden
        else:
            scores = scores.masked_fill(~mask[..., start:stop, :stop], float("-inf"))
        mixed.append(torch.softmax(scores, -1).to(value.dtype) @ value[..., :stop, :])
    return torch.cat(mixed, -2)
