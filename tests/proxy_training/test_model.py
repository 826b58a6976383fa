import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from curate.errors import RecipeError
from curate.proxy_training.model import Proxy, rotary_tables, rotate
from curate.proxy_training.network.cross_entropy import linear_cross_entropy
from curate.proxy_training.network.parametrisation import role
from curate.proxy_training.network.shape import ModelShape

SHAPES = [
    ModelShape(300, 32, 2, 2, 96, 64),
    ModelShape(300, 48, 3, 4, 128, 64, tied=False, bias=True),
    ModelShape(512, 32, 1, 4, 64, 32, qk_norm=False),
]


VARIANTS = [
    *SHAPES,
    ModelShape(300, 48, 2, 6, 64, 64, kv_heads=2, bias=True),
    ModelShape(300, 48, 2, 4, 64, 64, kv_heads=2, qk_norm="full", norm="layer", tied=False),
    ModelShape(300, 48, 2, 4, 64, 64, qk_norm="full", norm_placement="after", bias=True),
    ModelShape(300, 32, 2, 2, 64, 64, norm="layer"),
]


@pytest.mark.parametrize("shape", VARIANTS)
def test_counted_parameters_are_the_stored_ones(shape: ModelShape) -> None:
    model = Proxy(shape)
    assert shape.params_stored == sum(weight.numel() for weight in model.parameters())
    weights = dict(model.named_parameters())
    assert shape.parameters_norms == sum(w.numel() for name, w in weights.items() if role(name) == "norm")
    assert shape.parameters_qk_norms == sum(
        w.numel() for name, w in weights.items() if "query_" in name or "key_" in name
    )
    assert shape.parameters_matrices == sum(w.numel() for name, w in weights.items() if role(name) == "hidden")
    embedding = model.embedding.weight.numel()
    assert shape.params_non_embedding + embedding == shape.params


@pytest.mark.parametrize("shape", VARIANTS)
def test_exact_flops_are_what_torch_counts(shape: ModelShape) -> None:
    model = Proxy(shape).initialise(0)
    tokens = torch.randint(0, shape.vocab_size, (2, shape.sequence_length + 1))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens)[0].backward()
    counted = counter.get_total_flops() / (2 * shape.sequence_length)
    assert counted == pytest.approx(shape.flops_per_token_exact, rel=1e-6)
    assert shape.flops_per_token == 6 * shape.params


@pytest.mark.parametrize("shape", VARIANTS)
def test_a_member_of_a_stack_is_the_plain_model_in_loss_and_gradient(shape: ModelShape) -> None:
    seeds = (3, 4, 5)
    stack = Proxy(shape, members=3, z_loss=1e-2).initialise(seeds)
    tokens = torch.randint(0, shape.vocab_size, (3, 2, 33), generator=torch.Generator().manual_seed(0))
    minimised, cross_entropy = stack(tokens)
    minimised.sum().backward()
    nats = stack.token_nats(tokens)
    for i, seed in enumerate(seeds):
        plain = Proxy(shape, z_loss=1e-2).initialise(seed)
        copy = stack.member(i)
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), copy.parameters(), strict=True))
        alone = plain(tokens[i])
        alone[0].backward()
        torch.testing.assert_close((minimised[i], cross_entropy[i]), alone, rtol=1e-6, atol=0)
        torch.testing.assert_close(nats[i], plain.token_nats(tokens[i]), rtol=1e-5, atol=1e-5)
        gradients = dict(plain.named_parameters())
        for name, weight in stack.named_parameters():
            expected = gradients[name].grad
            assert expected is not None and weight.grad is not None
            torch.testing.assert_close(weight.grad[i], expected, rtol=1e-4, atol=1e-6)


def test_a_stack_in_double_precision_is_the_plain_model_to_twelve_digits() -> None:
    shape = VARIANTS[4]
    stack = Proxy(shape, members=2).initialise((0, 1)).double()
    tokens = torch.randint(0, 300, (2, 2, 32))
    logits = stack.logits(tokens)
    assert logits.dtype == torch.float64
    for i in range(2):
        torch.testing.assert_close(logits[i], stack.member(i).double().logits(tokens[i]), rtol=1e-12, atol=1e-12)


def test_grouped_queries_are_heads_that_share_keys_and_values() -> None:
    grouped = Proxy(ModelShape(300, 48, 1, 6, 64, 32, kv_heads=2)).initialise(0)
    whole = Proxy(ModelShape(300, 48, 1, 6, 64, 32)).initialise(0)
    weights = grouped.state_dict()
    query, key, value = weights["blocks.0.qkv.weight"].split((48, 16, 16))
    repeated = [part.view(2, 8, 48).repeat_interleave(3, 0).view(48, 48) for part in (key, value)]
    weights["blocks.0.qkv.weight"] = torch.cat((query, *repeated))
    whole.load_state_dict(weights)
    tokens = torch.randint(0, 300, (2, 32))
    torch.testing.assert_close(grouped.logits(tokens), whole.logits(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [SHAPES[0], VARIANTS[3]])
@pytest.mark.parametrize("members", [None, 2])
def test_with_a_document_mask_a_document_does_not_see_its_neighbours(shape: ModelShape, members: int | None) -> None:
    end = 7
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(8, 300, (2, 2, 48), generator=generator)
    tokens[:, :, [11, 30]] = end  # documents of 12, 19 and 17 tokens
    other = tokens.clone()
    other[:, :, :11] = torch.randint(8, 300, (2, 2, 11), generator=generator)
    seeds = 0 if members is None else (0, 1)
    if members is None:
        tokens, other = tokens[0], other[0]
    masked = Proxy(shape, members=members, document_mask=end).initialise(seeds)
    open_ = Proxy(shape, members=members).initialise(seeds)
    torch.testing.assert_close(masked.logits(tokens)[..., 12:, :], masked.logits(other)[..., 12:, :])
    assert not torch.allclose(open_.logits(tokens)[..., 12:, :], open_.logits(other)[..., 12:, :], atol=1e-2)
    # positions count from the window's start, and rotary scores know distances only: alone it is the same document
    alone = open_.logits(tokens[..., 12:31])
    torch.testing.assert_close(masked.logits(tokens)[..., 12:31, :], alone, rtol=1e-4, atol=1e-4)
    without_ends = torch.where(tokens == end, 8, tokens)
    torch.testing.assert_close(masked.logits(without_ends), open_.logits(without_ends), rtol=1e-4, atol=1e-4)


def test_dropout_acts_in_training_alone_and_follows_torchs_generator() -> None:
    shape = ModelShape(300, 32, 2, 2, 96, 64, dropout=0.1)
    model, tokens = Proxy(shape).initialise(0), torch.randint(0, 300, (2, 65))
    without = Proxy(SHAPES[0]).initialise(0)
    state = torch.get_rng_state()
    first, second = model(tokens)[1].item(), model(tokens)[1].item()
    torch.set_rng_state(state)
    assert model(tokens)[1].item() == first != second
    assert torch.equal(model.token_nats(tokens), without.token_nats(tokens))
    assert model.training
    assert model.eval()(tokens)[1].item() == without(tokens)[1].item() != first
    # what stays makes up for what is dropped
    added = model.train().blocks[0].add(torch.zeros(1, 400, 32), torch.ones(1, 400, 32))
    assert (added == 0).float().mean().item() == pytest.approx(0.1, abs=0.015)
    assert added.max().item() == pytest.approx(1 / 0.9)


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
    minimised, cross_entropy = linear_cross_entropy(x, weight, targets, z_loss=z_loss, bf16=False)
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


def test_a_text_longer_than_the_model_is_refused() -> None:
    with pytest.raises(RecipeError, match="64 positions"):
        Proxy(SHAPES[0]).logits(torch.zeros(1, 65, dtype=torch.long))


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(RecipeError, match="multiple of 2 x heads"):
        ModelShape(300, 30, 1, 4, 64, 32)
    with pytest.raises(RecipeError, match="multiple of kv_heads"):
        ModelShape(300, 32, 1, 4, 64, 32, kv_heads=3)
    with pytest.raises(RecipeError, match="dropout"):
        ModelShape(300, 32, 1, 4, 64, 32, dropout=1.0)
