"""Head, cross entropy and z-loss in one pass that never holds all logits, with their gradients.

Gradients are linear in the incoming one, so they are made in the forward pass (as in Liger Kernel, Hsu et al. 2024),
over chunks of tokens. In bfloat16 on a CPU logits are held in columns, a token each: a kernel (kernels/logits.py) turns
them into powers in place, and the rest is three matrix products. Elsewhere torch makes them in rows, and `compiled`
fuses what lies between the products.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from curate.kernels.logits import LANES, powers_of_logits

CHUNK_LOGITS = 2**21  # on a CPU: 512 tokens at a vocabulary of 4,096; longer chunks leave the cache
CHUNK_LOGITS_GPU = 2**28
CHUNK_TOKENS_MIN = 256  # shorter chunks starve the matrix products


def linear_cross_entropy(
    x: Tensor, weight: Tensor, targets: Tensor, *, z_loss: float, bf16: bool, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """What is minimised and the mean cross entropy in nats: scalars for x (n, d), weight (V, d), targets (n,); of shape
    (M,) for a stack: x (M, n, d), weight (M, V, d), targets (M, n)."""
    stacked = (x, weight, targets) if x.ndim == 3 else (x[None], weight[None], targets[None])
    minimised, nats = LinearCrossEntropy.apply(*stacked, z_loss, bf16, compiled)
    return (minimised, nats) if x.ndim == 3 else (minimised.sum(), nats.sum())  # not views: FSDP2 hooks on outputs


class LinearCrossEntropy(torch.autograd.Function):
    """The loss of each member of a stack; a member's numbers do not depend on its neighbours."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, z_loss: float, bf16: bool, compiled: bool
    ) -> tuple[Tensor, Tensor]:
        """x (M, n, d), weight (M, V, d), targets (M, n) to two of (M,): mean cross entropy + z_loss * mean log Z
        squared, and mean cross entropy."""
        tokens, vocabulary = x.shape[1], weight.shape[1]
        x_gradient = torch.empty_like(x)
        weight_gradient = torch.zeros_like(weight)
        sums = x.new_zeros(2, len(x))  # of nats and of log Z squared, by member
        if bf16 and x.device.type == "cpu":
            for member in range(len(x)):
                of_member = (x[member], weight[member], targets[member])
                sums[:, member] = _in_columns(*of_member, z_loss, x_gradient[member], weight_gradient[member])
        else:
            kind = torch.bfloat16 if bf16 else weight.dtype
            inputs, matrices = x.to(kind), weight.to(kind)
            logits_to_gradient = _compiled_kernel() if compiled else logits_gradient
            chunk = max(CHUNK_TOKENS_MIN, (CHUNK_LOGITS_GPU if x.is_cuda else CHUNK_LOGITS) // vocabulary)
            for member, matrix in enumerate(matrices):
                for start in range(0, tokens, chunk):
                    part = slice(start, start + chunk)
                    some = inputs[member, part]
                    gradient, *more = logits_to_gradient(some @ matrix.T, targets[member, part, None], z_loss, tokens)
                    sums[:, member] += torch.stack(more)
                    x_gradient[member, part] = gradient @ matrix
                    weight_gradient[member] += gradient.T @ some
        nats, log_z_squared = sums
        ctx.save_for_backward(x_gradient, weight_gradient)
        cross_entropy = nats / tokens
        ctx.mark_non_differentiable(cross_entropy)
        return cross_entropy + z_loss * log_z_squared / tokens, cross_entropy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients made in the forward pass."""
        x_gradient, weight_gradient = ctx.saved_tensors
        by_member = gradient[:, None, None]
        return x_gradient * by_member, weight_gradient * by_member, None, None, None, None


def _in_columns(
    x: Tensor, weight: Tensor, targets: Tensor, z_loss: float, x_gradient: Tensor, weight_gradient: Tensor
) -> Tensor:
    """Fill the gradients of one member, in bfloat16 on a CPU; returns the sums of nats and of log Z squared.

    A column of logits is a token: of its powers exp(logit - largest), which replace the logits, the gradient is a
    multiple, which the narrow operands of both products take on.
    """
    tokens, vocabulary = len(x), len(weight)
    spare = -tokens % LANES  # columns that fill the last vector, and count nothing
    inputs, matrix = F.pad(x.bfloat16(), (0, 0, 0, spare)), weight.bfloat16()
    targets = F.pad(targets, (0, spare))
    across = matrix.T.contiguous()
    chunk = max(CHUNK_TOKENS_MIN, CHUNK_LOGITS // vocabulary) // LANES * LANES
    sums = x.new_zeros(2)
    for start in range(0, tokens, chunk):
        some = inputs[start : start + chunk]
        target = targets[start : start + chunk], torch.arange(len(some))
        counted = min(len(some), tokens - start)
        logits = matrix @ some.T
        right = logits[target].float()
        largest, total = _to_powers(logits)
        log_z = total.log() + largest
        slope = 1 + 2 * z_loss * log_z
        factor = slope / (tokens * total)
        factor[counted:] = 0
        logits[target] = ((right - largest).exp() - total / slope).bfloat16()
        x_gradient[start : start + counted] = ((across @ logits) * factor).T[:counted]
        weight_gradient += logits @ (some * factor[:, None]).bfloat16()
        sums += torch.stack(((log_z - right)[:counted].sum(), log_z[:counted].square().sum()))
    return sums


def _to_powers(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (V, n) in bfloat16 become powers; the largest logit and the sum of powers of each column, in float32."""
    columns = logits.shape[1]
    largest, total = torch.empty(columns), torch.empty(columns)
    arrays = (logits.view(torch.uint16).numpy(), largest.numpy(), total.numpy())
    share = -(-columns // (LANES * torch.get_num_threads())) * LANES  # a column has the same bits in any share
    starts = range(0, columns, share)
    if len(starts) == 1:
        powers_of_logits(*arrays, 0, columns)
    else:
        list(_threads().map(lambda start: powers_of_logits(*arrays, start, min(start + share, columns)), starts))
    return largest, total


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="powers")


def logits_gradient(logits: Tensor, target: Tensor, z_loss: float, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (n, V) and targets (n, 1) to the gradient of the loss over `tokens` tokens by the logits, in their type,
    and the sums of nats and of log Z squared, in float32 or wider."""
    scores = logits.float() if logits.dtype == torch.bfloat16 else logits
    largest = scores.amax(1, keepdim=True)
    right = scores.gather(1, target)
    powers = (scores - largest).exp_()
    total = powers.sum(1, keepdim=True)
    log_z = total.log() + largest
    factor = (1 + 2 * z_loss * log_z) / (tokens * total)
    of_target = powers.gather(1, target) * factor - 1 / tokens
    gradient = powers.mul_(factor).to(logits.dtype).scatter_(1, target, of_target.to(logits.dtype))
    return gradient, (log_z - right).sum(), log_z.square().sum()


@cache
def _compiled_kernel() -> Callable[[Tensor, Tensor, float, int], tuple[Tensor, Tensor, Tensor]]:
    return torch.compile(logits_gradient, dynamic=False)
