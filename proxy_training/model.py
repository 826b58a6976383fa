"""The proxy: one decoder-only transformer in plain torch, the size of a datum, or a stack of them.

RMSNorm before each block (Zhang and Sennrich 2019), rotary positions (Su et al. 2021), RMSNorm on queries and
keys (Dehghani et al. 2023), SwiGLU (Shazeer 2020), embeddings tied unless told otherwise; `ModelShape` has the
variants of the published ladders. With `members=M` every weight has a leading dimension M and the M models, which
share nothing, run as one: small matrix products become batched ones. The loss is computed inside `forward`, see
`cross_entropy.py`. Attention is causal over the whole sequence: documents packed into one sequence see each other
unless `document_mask` gives the id of the end-of-text token.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curate.errors import RecipeError
from curate.proxy_training.evaluation.evaluators import LOGITS_AT_ONCE
from curate.proxy_training.network.attention import explicit_attention, prefers_explicit_scores
from curate.proxy_training.network.cross_entropy import linear_cross_entropy
from curate.proxy_training.network.parametrisation import Parametrisation, role
from curate.proxy_training.network.shape import ModelShape


def _weight(members: int | None, *shape: int) -> nn.Parameter:
    """Zeros of `shape`, or of (M, *shape); `Proxy.initialise` fills them."""
    return nn.Parameter(torch.zeros(shape if members is None else (members, *shape)))


class Linear(nn.Module):
    """A linear layer: weight (out, in) on x (..., in), or weight (M, out, in) on x (M, n, in)."""

    def __init__(self, columns: int, rows: int, *, members: int | None, bias: bool = False) -> None:
        super().__init__()
        self.weight = _weight(members, rows, columns)
        self.bias = _weight(members, rows) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x times the transposed weight, plus the bias."""
        if self.weight.ndim == 2:
            product = F.linear(x, self.weight)
            # apart: compiled, the bias is added where the product is read (cuBLAS may first copy it over the result)
            return product if self.bias is None else product + self.bias.to(product.dtype)
        if self.bias is None:
            return torch.bmm(x, self.weight.mT)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


class Norm(nn.Module):
    """RMSNorm, or LayerNorm without a bias, over the last dimension: weight (d,), or (M, d) on x (M, n, d)."""

    def __init__(self, width: int, shape: ModelShape, *, members: int | None) -> None:
        super().__init__()
        self.weight = _weight(members, width)
        self.eps = shape.norm_eps
        self.function = F.rms_norm if shape.norm == "rms" else F.layer_norm

    def forward(self, x: Tensor) -> Tensor:
        """x normed and scaled."""
        if self.weight.ndim == 1:
            weight = self.weight.float() if self.weight.dtype == torch.bfloat16 else self.weight  # as FSDP2 gathers it
            return self.function(x, x.shape[-1:], weight=weight, eps=self.eps)
        return self.function(x, x.shape[-1:], eps=self.eps) * self.weight.unsqueeze(1)


class Embedding(nn.Module):
    """Token ids (B, T) to rows of weight (V, d), or (M, n) to rows of weight (M, V, d)."""

    def __init__(self, vocab_size: int, width: int, *, members: int | None) -> None:
        super().__init__()
        self.weight = _weight(members, vocab_size, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., d)."""
        if self.weight.ndim == 2:
            return F.embedding(tokens, self.weight)
        members, vocab_size, _ = self.weight.shape
        first = torch.arange(0, members * vocab_size, vocab_size, device=tokens.device)
        return F.embedding(tokens + first[:, None], self.weight.flatten(0, 1))


class Block(nn.Module):
    """Attention, then SwiGLU, each on a normed copy of the residual stream and added to it."""

    def __init__(self, shape: ModelShape, parametrisation: Parametrisation, *, members: int | None) -> None:
        super().__init__()
        self.shape = shape
        self.attention_scale = parametrisation.attention_scale
        self.residual_multiplier = parametrisation.residual_multiplier
        self.norms_before = shape.norm_placement == "before"
        self.attention_norm = Norm(shape.width, shape, members=members)
        self.qkv = Linear(shape.width, shape.qkv_width, members=members, bias=shape.bias)
        if shape.qk_norm == "per_head":
            self.query_scale = _weight(members, shape.head_width)
            self.key_scale = _weight(members, shape.head_width)
        elif shape.qk_norm == "full":
            self.query_norm = Norm(shape.width, shape, members=members)
            self.key_norm = Norm(shape.qkv_widths[1], shape, members=members)
        self.attention_out = Linear(shape.width, shape.width, members=members, bias=shape.bias)
        self.ffn_norm = Norm(shape.width, shape, members=members)
        self.gate_up = Linear(shape.width, 2 * shape.ffn, members=members, bias=shape.bias)
        self.down = Linear(shape.ffn, shape.width, members=members, bias=shape.bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, d) to (B, T, d), or (M, B T, d) to (M, B T, d); `mask` is (M B, 1, T, T), True where a token sees."""
        if self.norms_before:
            x = self.add(x, self.attention(self.attention_norm(x), cos, sin, mask))
            return self.add(x, self.swiglu(self.ffn_norm(x)))
        x = self.add(x, self.attention_norm(self.attention(x, cos, sin, mask)))
        return self.add(x, self.ffn_norm(self.swiglu(x)))

    def add(self, x: Tensor, more: Tensor) -> Tensor:
        """The residual stream with what a half block says."""
        if self.training and self.shape.dropout:
            more = F.dropout(more, self.shape.dropout)
        return x + more if self.residual_multiplier == 1 else x + self.residual_multiplier * more

    def swiglu(self, x: Tensor) -> Tensor:
        """silu(gate) times up, brought back to the width."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)

    def attention(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """Causal attention over T positions, T being the length of `cos`."""
        shape, length = self.shape, len(cos)
        heads, groups = shape.heads, shape.groups
        qkv = self.qkv(x)
        kind = qkv.dtype
        if shape.qk_norm == "full":
            query, key, value = qkv.split(shape.qkv_widths, -1)
            qkv = torch.cat((self.query_norm(widened(query)), self.key_norm(widened(key)), widened(value)), -1)
        qkv = qkv.view(-1, length, heads + 2 * groups, shape.head_width)
        qk = widened(qkv[:, :, : heads + groups])  # (M B, T, heads + groups, d / heads)
        if shape.qk_norm == "per_head":
            qk = self.normed_by_head(qk)
        qk = rotate(qk, cos[:, None], sin[:, None]).to(kind)
        value = qkv[:, :, heads + groups :].to(kind)
        # heads first for the kernels, in memory as they were: the mixed values need no copy then, nor their gradient
        query, key = qk.transpose(1, 2).split((heads, groups), 1)
        value = value.transpose(1, 2)
        grouped = groups != heads
        dropout = shape.dropout if self.training else 0.0
        explicit = not dropout and prefers_explicit_scores(query)
        if grouped and (explicit or mask is not None):  # kernels that take a mask want as many keys as queries
            key, value = (some.repeat_interleave(heads // groups, 1) for some in (key, value))
        if explicit:
            mixed = explicit_attention(query, key, value, mask=mask, scale=self.attention_scale)
        else:
            mixed = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                is_causal=mask is None,
                dropout_p=dropout,
                scale=self.attention_scale,
                enable_gqa=grouped and mask is None,
            )
        return self.attention_out(mixed.transpose(1, 2).reshape(*x.shape[:-1], shape.width))

    def normed_by_head(self, qk: Tensor) -> Tensor:
        """Queries and keys (M B, T, heads + groups, d / heads), each normed and scaled by channel."""
        heads, groups = self.shape.heads, self.shape.groups
        scale = torch.stack((self.query_scale, self.key_scale), -2)  # (2, d / heads), or (M, 2, d / heads)
        if groups == heads:
            scale = scale.repeat_interleave(heads, -2)
        else:
            query, key = scale.split(1, -2)
            lead = [-1] * (scale.ndim - 2)
            scale = torch.cat((query.expand(*lead, heads, -1), key.expand(*lead, groups, -1)), -2)
        if scale.ndim == 3:
            scale = scale.repeat_interleave(len(qk) // len(scale), 0)
        function = F.rms_norm if self.shape.norm == "rms" else F.layer_norm
        return function(qk, qk.shape[-1:], eps=self.shape.norm_eps) * scale.unsqueeze(-3)


class Proxy(nn.Module):
    """The model with its loss; `bf16` runs its matrix products in bfloat16 over float32 weights (autocast).

    With `members=None` it is one model: tokens (B, T), weights (out, in). With `members=M` it is a stack of M:
    tokens (M, B, T), weights (M, out, in), a loss for each.
    """

    def __init__(
        self,
        shape: ModelShape,
        *,
        members: int | None = None,
        bf16: bool = False,
        z_loss: float = 0.0,
        document_mask: int | None = None,
        parametrisation: Parametrisation | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        self.members = members
        self.bf16 = bf16
        self.z_loss = z_loss
        self.document_mask = document_mask
        self.compiled_loss = False  # set by compiling.py
        self.parametrisation = parametrisation or Parametrisation.standard(shape)
        self.embedding = Embedding(shape.vocab_size, shape.width, members=members)
        self.blocks = nn.ModuleList(Block(shape, self.parametrisation, members=members) for _ in range(shape.layers))
        self.final_norm = Norm(shape.width, shape, members=members)
        self.head = None if shape.tied else Linear(shape.width, shape.vocab_size, members=members)
        cos, sin = rotary_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to what the head reads (B, T, d); (M, B, T) to (M, B T, d) in a stack."""
        length = tokens.shape[-1]
        if length > self.shape.sequence_length:
            raise RecipeError(
                f"{length} tokens are more than the {self.shape.sequence_length} positions of this model."
            )
        with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            x = self.embedding(tokens if self.members is None else tokens.flatten(1))
            if self.training and self.shape.dropout:
                x = F.dropout(x, self.shape.dropout)
            mask = None if self.document_mask is None else same_document(tokens, end_of_text=self.document_mask)
            for block in self.blocks:
                x = block(x, self.cos[:length], self.sin[:length], mask)
            x = self.final_norm(x)
            multiplier = self.parametrisation.output_multiplier
            return x if multiplier == 1 else x * multiplier

    @property
    def head_weight(self) -> Tensor:
        """(V, d), or (M, V, d): the embedding when tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """Sequences (B, T+1) to (what is minimised, mean cross entropy in nats), which differ by the z-loss; (M, B,
        T+1) to two of (M,)."""
        x, targets = self.hidden(sequences[..., :-1]), sequences[..., 1:]
        if self.members is None:
            x, targets = x.flatten(0, 1), targets.flatten()
        else:
            targets = targets.flatten(1)
        return linear_cross_entropy(
            x, self.head_weight, targets, z_loss=self.z_loss, bf16=self.bf16, compiled=self.compiled_loss
        )

    def logits(self, tokens: Tensor) -> Tensor:
        """Token ids (..., T) to scores of the next token (..., T, V), in float32 or float64."""
        x = self.hidden(tokens)
        scores = x @ self.head_weight.mT
        return widened(scores.view(*tokens.shape, -1))

    def token_nats(self, sequences: Tensor) -> Tensor:
        """Sequences (..., T+1) to the cross entropy of each target (..., T), in nats, float32; without dropout, without
        keeping gradients, and with at most LOGITS_AT_ONCE logits at once."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                x, targets = self.hidden(sequences[..., :-1]), sequences[..., 1:]
                if self.members is None:
                    x = x.flatten(0, 1)
                rows = max(1, LOGITS_AT_ONCE // (self.shape.vocab_size * (self.members or 1)))
                parts = zip(x.split(rows, -2), targets.reshape(x.shape[:-1]).split(rows, -1), strict=True)
                return torch.cat([self._nats(*part) for part in parts], -1).view(targets.shape)
        finally:
            self.train(training)

    def _nats(self, x: Tensor, targets: Tensor) -> Tensor:
        """What the head reads (..., n, d) to the cross entropy of targets (..., n)."""
        logits = widened(x @ self.head_weight.mT)
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)

    def initialise(self, seeds: int | Sequence[int]) -> "Proxy":
        """Fill all weights from a seed alone, not torch's global state; member i of a stack becomes what a plain model
        becomes from `seeds[i]`. Standard parametrisation: matrices and embeddings N(0, 1/columns), those
        that write to the residual stream divided by sqrt(2 L) (GPT-2's depth scaling).

        Embeddings at 1/sqrt(d) instead of GPT-2's .02 are worth .2 to .3 bits per byte at .06M and .4M parameters after
        .3M tokens, and halve the spread over seeds (measured on textbooks, vocabulary 1,024).
        """
        seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        if len(seeds) != (self.members or 1):
            raise ValueError(f"{len(seeds)} seeds for {self.members or 1} models")
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with torch.no_grad():
            for name, weights in self.named_parameters():
                for generator, weight in zip(
                    generators, weights[None] if self.members is None else weights, strict=True
                ):
                    if role(name) == "bias":
                        weight.zero_()
                    elif role(name) == "norm":
                        weight.fill_(1.0)
                    else:
                        std = self.parametrisation.initial_std(name, tuple(weight.shape))
                        weight.copy_(torch.randn(weight.shape, generator=generator) * std)
        return self

    def member(self, index: int) -> "Proxy":
        """A plain copy of one member of a stack."""
        copy = Proxy(
            self.shape,
            bf16=self.bf16,
            z_loss=self.z_loss,
            document_mask=self.document_mask,
            parametrisation=self.parametrisation,
        ).to(self.embedding.weight.device)
        copy.load_state_dict({name: weight[index] for name, weight in self.state_dict().items()})
        return copy.train(self.training)


def widened(x: Tensor) -> Tensor:
    """`x` in float32 if it is narrower: norms and rotations lose too much in bfloat16."""
    return x if x.dtype == torch.float64 else x.float()


def same_document(tokens: Tensor, *, end_of_text: int) -> Tensor:
    """Token ids (..., T) to (sequences, 1, T, T): True where a token sees another, before it or itself and of its
    document. An end-of-text token belongs to the document that it ends."""
    rows = tokens.flatten(0, -2)
    ends = (rows == end_of_text).cumsum(-1)
    document = ends - (rows == end_of_text).long()
    same = document[:, :, None] == document[:, None, :]
    return same.tril_().unsqueeze(1)


def rotary_tables(shape: ModelShape) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position times frequency: two of (T, d / heads / 2). In float32 throughout, as Hugging Face
    makes them, so that an exported model turns by the same angles, bit for bit."""
    head = shape.head_width
    frequencies = 1.0 / shape.rope_theta ** (torch.arange(0, head, 2, dtype=torch.float32) / head)
    angles = torch.outer(torch.arange(shape.sequence_length, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pair (i, i + half) of each head by its position, as Hugging Face Llama pairs them: x (..., T, heads, D)
    by the cosines and sines (T, 1, D / 2) of its angles."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
