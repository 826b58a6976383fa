"""The shape of a proxy, and what follows from it: parameters and FLOPs. No torch here, so that a plan costs
nothing."""

from dataclasses import dataclass
from typing import Literal

from curate.errors import RecipeError

QkNorm = Literal["none", "per_head", "full"]
NormKind = Literal["rms", "layer"]
NormPlacement = Literal["before", "after"]


@dataclass(frozen=True)
class ModelShape:
    """Everything that decides the parameters of a model and what it computes of them."""

    vocab_size: int
    """V: rows of the embedding."""
    width: int
    """d: size of the residual stream."""
    layers: int
    """L: blocks."""
    heads: int
    """Attention heads; width / heads is even, because rotary positions turn pairs."""
    ffn: int
    """Hidden size of the SwiGLU."""
    sequence_length: int
    """T: positions of a training sequence."""
    tied: bool = True
    """One matrix for embedding and head."""
    bias: bool = False
    """Biases in the linear layers of the blocks; the head has none."""
    qk_norm: QkNorm | bool = "per_head"
    """Norm on queries and keys: `per_head` has one scale per channel of a head (Qwen3), `full` norms the whole
    projection (OLMo 2, open_lm), `none` none. True and False are per_head and none."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    norm_eps: float = 1e-5
    """Added to the mean square (or the variance) in every norm."""
    kv_heads: int | None = None
    """Heads of keys and values, a divisor of `heads` (grouped-query attention); None is `heads`."""
    norm: NormKind = "rms"
    """`rms` or `layer`: LayerNorm with a scale and no bias (open_lm's gain_only_lp_layer_norm)."""
    norm_placement: NormPlacement = "before"
    """Norms before attention and SwiGLU, or after them inside the residual branch (OLMo 2)."""
    dropout: float = 0.0
    """In training: of the embedding, of attention's weights, of what each half block adds."""

    def __post_init__(self) -> None:
        if isinstance(self.qk_norm, bool):
            object.__setattr__(self, "qk_norm", "per_head" if self.qk_norm else "none")
        if self.kv_heads is None:
            object.__setattr__(self, "kv_heads", self.heads)
        if self.width % (2 * self.heads):
            raise RecipeError(
                f"width {self.width} must be a multiple of 2 x heads ({self.heads}): rotary positions turn pairs."
            )
        if self.groups < 1 or self.heads % self.groups:
            raise RecipeError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads}).")
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"dropout is {self.dropout}; it must lie in [0, 1).")

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def groups(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def qkv_widths(self) -> tuple[int, int, int]:
        """Channels of queries, of keys, of values."""
        of_keys = self.groups * self.head_width
        return self.width, of_keys, of_keys

    @property
    def qkv_width(self) -> int:
        """Channels of queries, keys and values together."""
        return sum(self.qkv_widths)

    @property
    def parameters_matrices(self) -> int:
        """Weights of all matrices in the blocks."""
        return self.layers * (self.width * (self.qkv_width + self.width) + 3 * self.width * self.ffn)

    @property
    def parameters_blocks(self) -> int:
        """Parameters of all blocks without their norms."""
        biases = (self.qkv_width + self.width + 2 * self.ffn + self.width) if self.bias else 0
        return self.parameters_matrices + self.layers * biases

    @property
    def parameters_qk_norms(self) -> int:
        """Scales of the norms on queries and keys; DCLM's published counts leave them out."""
        one_layer = {"none": 0, "per_head": 2 * self.head_width, "full": (self.heads + self.groups) * self.head_width}
        return self.layers * one_layer[str(self.qk_norm)]

    @property
    def parameters_norms(self) -> int:
        """Scales of all norms: two a block, those on queries and keys, one at the end."""
        return (2 * self.layers + 1) * self.width + self.parameters_qk_norms

    @property
    def parameters_embedding(self) -> int:
        """V d: one embedding matrix."""
        return self.vocab_size * self.width

    @property
    def params_non_embedding(self) -> int:
        """Blocks and norms."""
        return self.parameters_blocks + self.parameters_norms

    @property
    def params(self) -> int:
        """N = blocks + norms + one V d, the convention of the measurements (and of DataDecide's sizes)."""
        return self.params_non_embedding + self.parameters_embedding

    @property
    def params_stored(self) -> int:
        """What the weights hold: a second V d when embeddings are not tied."""
        return self.params + (0 if self.tied else self.parameters_embedding)

    @property
    def flops_per_token(self) -> float:
        """6 N: forward and backward multiplications and additions a training token under the convention "6ND"."""
        return 6.0 * self.params

    @property
    def flops_per_token_exact(self) -> float:
        """6 (matrices + V d) + 12 L d T: with attention over the whole square, without norms."""
        matrices = 6.0 * (self.parameters_matrices + self.parameters_embedding)
        return matrices + 12.0 * self.layers * self.width * self.sequence_length
