"""The proxy: one decoder-only transformer in plain torch, the size of a datum.

RMSNorm before each block (Zhang and Sennrich 2019), rotary positions (Su et al. 2021), RMSNorm on queries and
keys per head (Dehghani et al. 2023), SwiGLU (Shazeer 2020), no biases, embeddings tied unless told otherwise.
The loss is computed inside `forward` by `LinearCrossEntropy`, which never holds all logits: on a CPU that alone
makes a step 1.7 x as fast at width 32 and vocabulary 1,024. Attention is causal over the whole sequence:
documents packed into one sequence see each other.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.proxy_training.shape import ModelShape


class Block(nn.Module):
    """Attention, then SwiGLU, each on a normed copy of the residual stream and added to it."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.heads = shape.heads
        head = shape.width // shape.heads
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=shape.bias)
        self.qk_scale = nn.Parameter(torch.ones(2, 1, 1, head)) if shape.qk_norm else None  # of queries, of keys
        self.norm_eps = shape.norm_eps
        self.attention_out = nn.Linear(shape.width, shape.width, bias=shape.bias)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.gate_up = nn.Linear(shape.width, 2 * shape.ffn, bias=shape.bias)
        self.down = nn.Linear(shape.ffn, shape.width, bias=shape.bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        qk = qkv[:, :, :2].permute(0, 2, 3, 1, 4).float()  # (B, 2, heads, T, d / heads)
        if self.qk_scale is not None:
            qk = F.rms_norm(qk, qk.shape[-1:], eps=self.norm_eps) * self.qk_scale
        value = qkv[:, :, 2].transpose(1, 2)
        query, key = rotate(qk, cos, sin).to(value.dtype).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Proxy(nn.Module):
    """The model with its loss; `bf16` runs its matrix products in bfloat16 over float32 weights (autocast)."""

    def __init__(self, shape: ModelShape, *, bf16: bool = False, z_loss: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.bf16 = bf16
        self.z_loss = z_loss
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.final_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.head = None if shape.tied else nn.Linear(shape.width, shape.vocab_size, bias=False)
        cos, sin = rotary_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to what the head reads (B, T, d)."""
        length = tokens.shape[1]
        with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            x = self.embedding(tokens)
            for block in self.blocks:
                x = block(x, self.cos[:length], self.sin[:length])
            return self.final_norm(x)

    @property
    def head_weight(self) -> Tensor:
        """(V, d): the embedding when tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """Sequences (B, T+1) to (what is minimised, mean cross entropy in nats); they differ by the z-loss."""
        x = self.hidden(sequences[:, :-1]).flatten(0, 1)
        return LinearCrossEntropy.apply(x, self.head_weight, sequences[:, 1:].flatten(), self.z_loss, self.bf16)

    def token_nats(self, sequences: Tensor) -> Tensor:
        """Sequences (B, T+1) to the cross entropy of each target (B, T), in nats, float32, without keeping
        gradients."""
        with torch.no_grad():
            logits = F.linear(self.hidden(sequences[:, :-1]), self.head_weight).float()
            nats = F.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten(), reduction="none")
            return nats.view(len(sequences), -1)

    def initialise(self, seed: int) -> "Proxy":
        """Fill all weights from `seed` alone, not torch's global state: matrices and embeddings N(0, 1/columns), those
        that write to the residual stream divided by sqrt(2 L) (GPT-2's depth scaling).

        Embeddings at 1/sqrt(d) instead of GPT-2's .02 are worth .2 to .3 bits per byte at .06M and .4M parameters after
        .3M tokens, and halve the spread over seeds (measured on textbooks, vocabulary 1,024).
        """
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            with torch.no_grad():
                if name.endswith("bias"):
                    weight.zero_()
                elif weight.ndim != 2:
                    weight.fill_(1.0)
                else:
                    std = weight.shape[1] ** -0.5
                    if name.endswith(("attention_out.weight", "down.weight")):
                        std /= math.sqrt(2 * self.shape.layers)
                    weight.copy_(torch.randn(weight.shape, generator=generator) * std)
        return self


class LinearCrossEntropy(torch.autograd.Function):
    """Head, cross entropy and z-loss with their gradients in one pass over chunks of tokens that stay in the cache.

    The gradients are linear in the incoming one, so they are made in the forward pass (as in Liger Kernel, Hsu
    et al. 2024).
    """

    CHUNK = 512  # tokens; 2 MB of logits at a vocabulary of 1,024

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, z_loss: float, bf16: bool
    ) -> tuple[Tensor, Tensor]:
        """x (n, d), weight (V, d), targets (n,) to (mean cross entropy + z_loss * mean log Z squared, mean
        cross entropy)."""
        tokens = len(x)
        kind = torch.bfloat16 if bf16 else weight.dtype
        matrix = weight.to(kind)
        x_gradient = torch.empty_like(x)
        weight_gradient = torch.zeros_like(weight)
        nats, log_z_squared = x.new_zeros(()), x.new_zeros(())
        for start in range(0, tokens, LinearCrossEntropy.CHUNK):
            part = slice(start, start + LinearCrossEntropy.CHUNK)
            some, target = x[part].to(kind), targets[part, None]
            logits = (some @ matrix.T).float()
            largest = logits.amax(1, keepdim=True)
            right = logits.gather(1, target)
            total = logits.sub_(largest).exp_().sum(1, keepdim=True)
            log_z = total.log() + largest
            nats += (log_z - right).sum()
            log_z_squared += log_z.square().sum()
            gradient = logits.mul_((1 + 2 * z_loss * log_z) / (tokens * total))  # of the logits, in their place
            gradient.scatter_add_(1, target, torch.full_like(right, -1 / tokens))
            gradient = gradient.to(kind)
            x_gradient[part] = gradient @ matrix
            weight_gradient += gradient.T @ some
        ctx.save_for_backward(x_gradient, weight_gradient)
        cross_entropy = nats / tokens
        ctx.mark_non_differentiable(cross_entropy)
        return cross_entropy + z_loss * log_z_squared / tokens, cross_entropy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients made in the forward pass."""
        x_gradient, weight_gradient = ctx.saved_tensors
        return x_gradient * gradient, weight_gradient * gradient, None, None, None


def rotary_tables(shape: ModelShape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position times frequency: two of (T, d / heads / 2)."""
    head = shape.width // shape.heads
    frequencies = shape.rope_theta ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
    angles = torch.outer(torch.arange(shape.sequence_length, dtype=torch.float64), frequencies)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pair (i, i + half) of each head by its position: (..., T, d / heads), the layout of Hugging Face
    Llama."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
