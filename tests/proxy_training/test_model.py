import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from curate.errors import RecipeError
from curate.proxy_training.model import LinearCrossEntropy, Proxy, rotary_tables, rotate
from curate.proxy_training.shape import ModelShape

SHAPES = [
    ModelShape(300, 32, 2, 2, 96, 64),
    ModelShape(300, 48, 3, 4, 128, 64, tied=False, bias=True),
    ModelShape(512, 32, 1, 4, 64, 32, qk_norm=False),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_counted_parameters_are_the_stored_ones(shape: ModelShape) -> None:
    model = Proxy(shape)
    assert shape.params_stored == sum(weight.numel() for weight in model.parameters())
    norms = sum(w.numel() for name, w in model.named_parameters() if "norm" in name or "qk_scale" in name)
    assert shape.parameters_norms == norms
    embedding = model.embedding.weight.numel()
    assert shape.params_non_embedding + embedding == shape.params


def test_parameters_of_published_models_come_out() -> None:
    """Llama-2 7B: 6,738,415,616 parameters, 131,072,000 of them an untied second embedding."""
    llama = ModelShape(32000, 4096, 32, 32, 11008, 4096, tied=False, qk_norm=False)
    assert llama.params_stored == 6_738_415_616


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_flops_are_what_torch_counts(shape: ModelShape) -> None:
    model = Proxy(shape).initialise(0)
    tokens = torch.randint(0, shape.vocab_size, (2, shape.sequence_length + 1))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens)[0].backward()
    counted = counter.get_total_flops() / (2 * shape.sequence_length)
    assert counted == pytest.approx(shape.flops_per_token_exact, rel=1e-6)
    assert shape.flops_per_token == 6 * shape.params


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_the_loss_in_chunks_and_its_gradients_are_torchs(z_loss: float) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1100, 24, requires_grad=True), torch.randn(300, 24, requires_grad=True)
    targets = torch.randint(0, 300, (1100,))
    logits = x @ weight.T
    expected = F.cross_entropy(logits, targets)
    (3 * (expected + z_loss * logits.logsumexp(1).square().mean())).backward()
    gradients = x.grad, weight.grad
    x.grad = weight.grad = None
    minimised, cross_entropy = LinearCrossEntropy.apply(x, weight, targets, z_loss, False)
    (3 * minimised).backward()
    assert cross_entropy == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close((x.grad, weight.grad), gradients, rtol=1e-4, atol=1e-6)


def test_the_mean_of_token_nats_is_the_loss() -> None:
    model = Proxy(SHAPES[0], z_loss=0.1).initialise(3)
    tokens = torch.randint(0, 300, (3, 65))
    minimised, cross_entropy = model(tokens)
    assert model.token_nats(tokens).mean().item() == pytest.approx(cross_entropy.item(), rel=1e-6)
    assert minimised > cross_entropy


def test_a_token_sees_only_what_came_before() -> None:
    model = Proxy(SHAPES[0]).initialise(0)
    tokens = torch.randint(0, 300, (1, 64))
    changed = tokens.clone()
    changed[0, 40] = (changed[0, 40] + 1) % 300
    before, after = model.hidden(tokens), model.hidden(changed)
    torch.testing.assert_close(before[:, :40], after[:, :40])
    assert not torch.allclose(before[:, 40:], after[:, 40:])


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    shape = SHAPES[0]
    cos, sin = rotary_tables(shape)
    query, key = torch.randn(16), torch.randn(16)
    queries = rotate(query.expand(1, 1, 64, 16), cos, sin)[0, 0]
    keys = rotate(key.expand(1, 1, 64, 16), cos, sin)[0, 0]
    scores = queries @ keys.T
    torch.testing.assert_close(scores.diagonal(-5), scores[5, 0].expand(59), rtol=1e-4, atol=1e-4)


def test_initialisation_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = Proxy(SHAPES[0]).initialise(7)
    torch.manual_seed(2)
    second, third = Proxy(SHAPES[0]).initialise(7), Proxy(SHAPES[0]).initialise(8)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.embedding.weight, third.embedding.weight)
    tokens = torch.randint(0, 300, (4, 65))
    # scores of unit variance cost half a nat more than a uniform guess
    assert first(tokens)[1].item() == pytest.approx(math.log(300) + 0.5, rel=0.03)


def test_outputs_into_the_residual_stream_are_scaled_by_depth() -> None:
    deep = Proxy(ModelShape(300, 64, 8, 2, 128, 32)).initialise(0)
    assert deep.blocks[0].down.weight.std().item() == pytest.approx(128**-0.5 / math.sqrt(16), rel=0.05)
    assert deep.blocks[0].gate_up.weight.std().item() == pytest.approx(64**-0.5, rel=0.05)


def test_bf16_gives_nearly_the_loss_of_fp32() -> None:
    tokens = torch.randint(0, 300, (4, 65))
    losses = [Proxy(SHAPES[0], bf16=bf16).initialise(0)(tokens)[1].item() for bf16 in (False, True)]
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(RecipeError, match="multiple of 2 x heads"):
        ModelShape(300, 30, 1, 4, 64, 32)
