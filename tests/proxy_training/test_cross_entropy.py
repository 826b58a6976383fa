"""The loss against plain cross entropy in float64, alone and stacked, with its gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curate.kernels.logits import LANES, powers_of_logits
from curate.proxy_training.network import cross_entropy
from curate.proxy_training.network.cross_entropy import linear_cross_entropy


def plain(x: Tensor, weight: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Minimised, nats and both gradients of one model, the long way."""
    x, weight = x.detach().clone().requires_grad_(), weight.detach().clone().requires_grad_()
    logits = x @ weight.T
    nats = F.cross_entropy(logits, targets)
    minimised = nats + z_loss * logits.logsumexp(1).square().mean()
    return minimised, nats, *torch.autograd.grad(minimised, (x, weight))


def drawn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@settings(max_examples=25, deadline=None)
@given(
    members=st.integers(1, 3),
    tokens=st.integers(1, 40),
    vocabulary=st.integers(2, 50),
    z_loss=st.sampled_from([0.0, 1e-4, 0.1]),
    size=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 2**31),
)
def test_loss_and_gradients_are_those_of_plain_cross_entropy(members, tokens, vocabulary, z_loss, size, seed):
    x, weight = drawn(seed, members, tokens, 8) * size, drawn(seed + 1, members, vocabulary, 8)
    targets = torch.randint(0, vocabulary, (members, tokens), generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:  # several chunks, the last one short
        patch.setattr(cross_entropy, "CHUNK_TOKENS_MIN", 16)
        patch.setattr(cross_entropy, "CHUNK_LOGITS", 1)
        ours = (x.requires_grad_(), weight.requires_grad_())
        minimised, nats = linear_cross_entropy(*ours, targets, z_loss=z_loss, bf16=False)
        gradients = torch.autograd.grad(minimised.sum(), ours)
    for i in range(members):
        expected = plain(x[i], weight[i], targets[i], z_loss)
        for got, wanted in zip((minimised[i], nats[i], gradients[0][i], gradients[1][i]), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_bfloat16_rounds_the_products_only():
    x, weight = drawn(0, 64, 16, dtype=torch.float32), drawn(1, 100, 16, dtype=torch.float32)
    targets = torch.arange(64)
    _, nats = linear_cross_entropy(x, weight, targets, z_loss=0.0, bf16=True)
    rounded = (x.bfloat16() @ weight.bfloat16().T).float()
    assert nats.item() == pytest.approx(F.cross_entropy(rounded, targets).item(), rel=1e-6)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_member_has_the_bits_that_it_has_alone(bf16):
    x, weight = drawn(0, 4, 300, 24, dtype=torch.float32), drawn(1, 4, 200, 24, dtype=torch.float32)
    targets = torch.randint(0, 200, (4, 300), generator=torch.Generator().manual_seed(0))

    def numbers(*some: Tensor) -> tuple[Tensor, ...]:
        a, b = some[0].detach().requires_grad_(), some[1].detach().requires_grad_()
        minimised, nats = linear_cross_entropy(a, b, some[2], z_loss=1e-4, bf16=bf16)
        return nats.detach(), *torch.autograd.grad(minimised.sum(), (a, b))

    together = numbers(x, weight, targets)
    for i in range(4):
        alone = numbers(x[i], weight[i], targets[i])
        assert all(torch.equal(a, b[i]) for a, b in zip(alone, together, strict=True))


def test_the_incoming_gradient_scales_a_member_on_its_own():
    x, weight = drawn(0, 2, 20, 8).requires_grad_(), drawn(1, 2, 30, 8)
    targets = torch.zeros(2, 20, dtype=torch.long)
    minimised, _ = linear_cross_entropy(x, weight, targets, z_loss=0.0, bf16=False)
    (both,) = torch.autograd.grad(minimised.sum(), x, retain_graph=True)
    (weighted,) = torch.autograd.grad(minimised, x, torch.tensor([2.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(weighted, both * torch.tensor([2.0, 0.0])[:, None, None])


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 40),
    vectors=st.integers(1, 3),
    size=st.sampled_from([0.01, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 2**31),
)
def test_powers_and_their_sums_are_those_of_numpy(rows, vectors, size, seed):
    logits = (drawn(seed, rows, vectors * LANES) * size).bfloat16()
    scores = logits.double().numpy()
    powers = np.exp(scores - scores.max(0))
    largest, total = np.empty(vectors * LANES, np.float32), np.empty(vectors * LANES, np.float32)
    for start in range(0, vectors * LANES, LANES):
        powers_of_logits(logits.view(torch.uint16).numpy(), largest, total, start, start + LANES)
    np.testing.assert_array_equal(largest, scores.max(0))
    np.testing.assert_allclose(total, powers.sum(0), rtol=1e-5)
    np.testing.assert_allclose(logits.float().numpy(), powers, rtol=2**-8 + 1e-4, atol=2.0**-119)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_logit_that_is_not_finite_makes_the_loss_of_its_member_so(bad):
    x, weight = drawn(0, 2, 40, 8, dtype=torch.float32), drawn(1, 2, 30, 8, dtype=torch.float32)
    targets = torch.zeros(2, 40, dtype=torch.long)
    _, fine = linear_cross_entropy(x, weight, targets, z_loss=0.0, bf16=True)
    weight[1, 7, 3] = bad
    _, nats = linear_cross_entropy(x, weight, targets, z_loss=0.0, bf16=True)
    assert nats[0] == fine[0] and not nats[1].isfinite()


def test_rows_in_bfloat16_as_on_a_gpu_have_the_gradients_of_plain_cross_entropy():
    logits = drawn(0, 40, 50, dtype=torch.bfloat16)
    targets = torch.arange(40)
    exact = logits.double().requires_grad_()
    log_z = exact.logsumexp(1)
    (F.cross_entropy(exact, targets) + 0.1 * log_z.square().mean()).backward()
    gradient, nats, log_z_squared = cross_entropy.logits_gradient(logits.clone(), targets[:, None], 0.1, 40)
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient.double(), exact.grad, rtol=2**-8, atol=1e-6)
    assert nats.item() == pytest.approx(F.cross_entropy(exact, targets, reduction="sum").item(), rel=1e-5)
    assert log_z_squared.item() == pytest.approx(log_z.square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("tokens", [7, 300])
def test_gradients_in_bfloat16_differ_by_its_rounding(tokens):
    x, weight = drawn(0, tokens, 24, dtype=torch.float32), drawn(1, 500, 24, dtype=torch.float32)
    targets = torch.randint(0, 500, (tokens,), generator=torch.Generator().manual_seed(0))
    exact = plain(x.bfloat16().double(), weight.bfloat16().double(), targets, 1e-4)
    x.requires_grad_(), weight.requires_grad_()
    with pytest.MonkeyPatch.context() as patch:  # several chunks, the last one short
        patch.setattr(cross_entropy, "CHUNK_TOKENS_MIN", 64)
        patch.setattr(cross_entropy, "CHUNK_LOGITS", 1)
        minimised, nats = linear_cross_entropy(x, weight, targets, z_loss=1e-4, bf16=True)
    assert minimised.item() == pytest.approx(exact[0].item(), rel=3e-3)
    assert nats.item() == pytest.approx(exact[1].item(), rel=3e-3)
    for got, wanted in zip(torch.autograd.grad(minimised, (x, weight)), exact[2:], strict=True):
        assert (got - wanted).norm() < 0.01 * wanted.norm()


def test_threads_share_columns_without_changing_a_bit(monkeypatch):
    logits = drawn(0, 50, 5 * LANES).bfloat16()
    alone, shared = logits.clone(), logits.clone()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = cross_entropy._to_powers(alone)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    two = cross_entropy._to_powers(shared)
    assert torch.equal(alone, shared) and all(map(torch.equal, one, two))


@pytest.mark.slow
def test_the_compiled_loss_differs_by_rounding():
    x, weight = drawn(0, 300, 24, dtype=torch.float32), drawn(1, 200, 24, dtype=torch.float32)
    targets = torch.randint(0, 200, (300,), generator=torch.Generator().manual_seed(0))
    eager, compiled = (
        linear_cross_entropy(x, weight, targets, z_loss=1e-4, bf16=False, compiled=how)[0] for how in (False, True)
    )
    torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=0)
