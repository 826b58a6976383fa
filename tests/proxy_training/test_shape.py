"""Counts of published models come out of their shapes, to the last parameter."""

import pytest

from curate.proxy_training.network.shape import ModelShape


def test_llama_2_7b() -> None:
    """6,738,415,616 parameters, 131,072,000 of them an untied second embedding."""
    llama = ModelShape(32000, 4096, 32, 32, 11008, 4096, tied=False, qk_norm="none")
    assert llama.params_stored == 6_738_415_616


@pytest.mark.parametrize(
    ("vocab_size", "width", "layers", "heads", "kv_heads", "ffn", "stored"),
    [
        (128_256, 4096, 32, 32, 8, 14336, 8_030_261_248),  # Llama 3 8B
        (32_000, 2048, 22, 32, 4, 5632, 1_100_048_384),  # TinyLlama 1.1B
    ],
)
def test_models_with_grouped_queries(
    vocab_size: int, width: int, layers: int, heads: int, kv_heads: int, ffn: int, stored: int
) -> None:
    shape = ModelShape(vocab_size, width, layers, heads, ffn, 2048, tied=False, qk_norm="none", kv_heads=kv_heads)
    assert shape.params_stored == stored


@pytest.mark.parametrize(
    ("millions", "width", "heads", "layers"),
    [
        (3.7, 64, 8, 8),
        (6.0, 96, 8, 8),
        (8.5, 128, 8, 8),
        (9.9, 144, 8, 8),
        (14.4, 192, 8, 8),
        (16.0, 208, 8, 8),
        (19.1, 192, 8, 16),
        (57.1, 384, 12, 16),
        (97.9, 528, 12, 16),
        (151.9, 768, 12, 12),
        (320.0, 1024, 16, 16),
        (530.1, 1344, 16, 16),
        (681.3, 1536, 16, 16),
        (1176.8, 2048, 16, 16),
    ],
)
def test_datadecide_counts_blocks_norms_and_one_embedding(millions: float, width: int, heads: int, layers: int) -> None:
    """OLMo's ladder: mlp_ratio 8, which SwiGLU halves; RMSNorm before, no norm on queries and keys, untied, 50,304."""
    shape = ModelShape(50_304, width, layers, heads, 4 * width, 2048, tied=False, qk_norm="none", norm_eps=1e-6)
    assert round(shape.params / 1e6, 1) == millions


def test_datadecide_4m_and_1b_to_the_last_parameter() -> None:
    small = ModelShape(50_304, 64, 8, 8, 256, 2048, tied=False, qk_norm="none")
    large = ModelShape(50_304, 2048, 16, 16, 8192, 2048, tied=False, qk_norm="none")
    assert (small.params, large.params) == (3_744_832, 1_176_832_000)
    assert small.parameters_blocks == 524_288  # what "4M" means without its embedding


@pytest.mark.parametrize(
    ("width", "layers", "heads", "params", "params_without_embedding"),
    [
        (1024, 24, 8, 411_616_256, 359_973_888),
        (2048, 24, 16, 1_439_795_200, 1_336_510_464),
        (2560, 32, 32, 2_795_932_160, 2_666_826_240),
        (4096, 32, 32, 6_889_410_560, 6_682_841_088),
    ],
)
def test_dclm_counts_all_weights_but_the_norms_of_queries_and_keys(
    width: int, layers: int, heads: int, params: int, params_without_embedding: int
) -> None:
    """open_lm: SwiGLU of 8/3 d rounded up to 256, LayerNorm without bias, also on whole queries and keys."""
    ffn = 256 * ((8 * width // 3 + 255) // 256)
    shape = ModelShape(50_432, width, layers, heads, ffn, 2048, tied=False, qk_norm="full", norm="layer")
    assert shape.params_stored - shape.parameters_qk_norms == params
    assert params - shape.parameters_embedding == params_without_embedding
    assert shape.parameters_qk_norms == 2 * layers * width


@pytest.mark.parametrize(
    ("width", "layers", "heads", "ffn", "blocks", "embedding", "flops_per_token"),
    [
        (512, 22, 8, 2256, 0.10, 0.03, 7.8e8),
        (1024, 22, 16, 3840, 0.35, 0.05, 2.4e9),
        (2048, 24, 32, 5440, 1.21, 0.10, 7.9e9),
        (2048, 24, 32, 8192, 1.61, 0.10, 1.0e10),
    ],
)
def test_open_sci_ref_counts_and_flops(
    width: int, layers: int, heads: int, ffn: int, blocks: float, embedding: float, flops_per_token: float
) -> None:
    shape = ModelShape(50_304, width, layers, heads, ffn, 4096, bias=True, rope_theta=100_000.0, dropout=0.1)
    assert round(shape.params_non_embedding / 1e9, 2) == pytest.approx(blocks)
    assert round(shape.parameters_embedding / 1e9, 2) == pytest.approx(embedding)
    # the published FLOPs are 6 times the rounded N: 7.8e8 at .13B, where 6 N is 7.5e8
    assert 6e9 * round(shape.params / 1e9, 2) == pytest.approx(flops_per_token, rel=0.03)
    assert shape.flops_per_token == pytest.approx(flops_per_token, rel=0.04)


def test_conventions_of_flops_differ_by_what_they_say() -> None:
    shape = ModelShape(1000, 64, 2, 4, 128, 256, kv_heads=2, tied=False)
    matrices = 2 * (64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 128)
    assert shape.parameters_matrices == matrices
    assert shape.flops_per_token_exact == 6 * (matrices + 64_000) + 12 * 2 * 64 * 256
    assert shape.flops_per_token == 6 * (shape.params_non_embedding + 64_000)


def test_qk_norm_as_ladders_wrote_it_first() -> None:
    assert ModelShape(300, 32, 1, 2, 64, 32, qk_norm=True) == ModelShape(300, 32, 1, 2, 64, 32, qk_norm="per_head")
    assert ModelShape(300, 32, 1, 2, 64, 32, qk_norm=False).qk_norm == "none"
