"""The shape of a proxy, and what follows from it: parameters and FLOPs. No torch here, so that a plan costs
nothing."""

from dataclasses import dataclass

from curate.errors import RecipeError


@dataclass(frozen=True)
class ModelShape:
    """Everything that decides the parameters of a model."""

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
    """Biases in the linear layers."""
    qk_norm: bool = True
    """RMSNorm on queries and keys, one scale per channel of a head."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    norm_eps: float = 1e-5
    """Added to the mean square in every norm."""

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise RecipeError(
                f"width {self.width} must be a multiple of 2 x heads ({self.heads}): rotary positions turn pairs."
            )

    @property
    def parameters_blocks(self) -> int:
        """Parameters of all blocks without their norms."""
        d, f = self.width, self.ffn
        biases = (3 * d + d + 2 * f + d) if self.bias else 0
        return self.layers * (4 * d * d + 3 * d * f + biases)

    @property
    def parameters_norms(self) -> int:
        """Scales of all norms: two a block, two on queries and keys, one at the end."""
        per_head = 2 * (self.width // self.heads) if self.qk_norm else 0
        return self.layers * (2 * self.width + per_head) + self.width

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
        matrices = self.layers * (4 * self.width**2 + 3 * self.width * self.ffn) + self.parameters_embedding
        return 6.0 * matrices + 12.0 * self.layers * self.width * self.sequence_length
