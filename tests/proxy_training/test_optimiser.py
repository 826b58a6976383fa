"""The optimiser against torch.optim.AdamW and torch's clipping, alone, stacked, with members of different rates."""

import math

import pytest
import torch
from torch import Tensor, nn

from curate.proxy_training.network.optimiser import (
    AdamSettings,
    ShardedAdamW,
    StackedAdamW,
    TensorRule,
    make_optimiser,
)

SETTINGS = AdamSettings(beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.05, clip_norm=1.0)
RULES = {
    "embedding": TensorRule(weight_decay=0.0),
    "hidden": TensorRule(learning_rate=0.25, weight_decay=4.0, eps=0.5),
    "norm": TensorRule(weight_decay=0.0),
}
SHAPES = {"embedding": (11, 7), "hidden": (7, 5), "norm": (7,)}
RATES = (1e-2, 3e-2, 1e-1)


def models(members: int | None, *, seed: int = 0) -> nn.Module:
    model = nn.Module()
    generator = torch.Generator().manual_seed(seed)
    for name, shape in SHAPES.items():
        weight = torch.randn((3, *shape), generator=generator)
        model.register_parameter(name, nn.Parameter(weight if members else weight[0].clone()))
    return model


def gradients(step: int, *, size: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    return {name: torch.randn((3, *shape), generator=generator) * size for name, shape in SHAPES.items()}


def give(model: nn.Module, some: dict[str, Tensor], member: int | None = None) -> None:
    for name, weight in model.named_parameters():
        weight.grad = some[name].clone() if member is None else some[name][member].clone()


def reference(member: int, *, steps: int) -> tuple[dict[str, Tensor], list[float]]:
    """torch.optim.AdamW on one member alone, in float64."""
    weights = {name: weight[member].detach().double().requires_grad_() for name, weight in models(3).named_parameters()}
    optimiser = torch.optim.AdamW(
        [
            {
                "params": [weights[name]],
                "lr": RATES[member] * rule.learning_rate,
                "weight_decay": SETTINGS.weight_decay * rule.weight_decay,
                "eps": SETTINGS.eps * rule.eps,
            }
            for name, rule in RULES.items()
        ],
        betas=(SETTINGS.beta1, SETTINGS.beta2),
    )
    norms = []
    for step in range(steps):
        for name, weight in weights.items():
            weight.grad = gradients(step, size=0.3 if step % 2 else 0.01)[name][member].double()
        norms.append(float(nn.utils.clip_grad_norm_(weights.values(), SETTINGS.clip_norm)))
        optimiser.step()
    return weights, norms


def test_every_member_steps_as_torch_would_step_it_alone():
    stack = models(3)
    optimiser = make_optimiser(stack, SETTINGS, RULES, members=3)
    norms = []
    for step in range(6):
        give(stack, gradients(step, size=0.3 if step % 2 else 0.01))
        norms.append(optimiser.step(RATES))
    for member in range(3):
        weights, expected_norms = reference(member, steps=6)
        assert [norm[member] for norm in norms] == pytest.approx(expected_norms, rel=1e-6)
        for name, weight in stack.named_parameters():
            torch.testing.assert_close(weight[member].double(), weights[name].detach(), rtol=1e-6, atol=1e-6)
    assert all(weight.grad is None for weight in stack.parameters())


def test_a_member_has_the_bits_that_it_has_alone():
    stack, alone = models(3), models(None)
    together, single = make_optimiser(stack, SETTINGS, RULES, members=3), make_optimiser(alone, SETTINGS, RULES)
    for step in range(4):
        give(stack, gradients(step))
        give(alone, gradients(step), 0)
        assert together.step(RATES)[0] == single.step(RATES[0])[0]
    for (_, a), (_, b) in zip(stack.named_parameters(), alone.named_parameters(), strict=True):
        assert torch.equal(a[0], b)


def test_what_is_not_finite_or_was_taken_out_stays_as_it_is_and_the_others_go_on():
    stack = models(3)
    before = {name: weight.detach().clone() for name, weight in stack.named_parameters()}
    optimiser = make_optimiser(stack, SETTINGS, RULES, members=3)
    some = gradients(0)
    some["hidden"][1, 0, 0] = math.nan
    some["norm"][2] = math.nan
    optimiser.take_out(2)
    give(stack, some)
    norms = optimiser.step(0.01)
    assert math.isfinite(norms[0]) and math.isnan(norms[1]) and norms[2] == 0.0
    for name, weight in stack.named_parameters():
        assert not torch.equal(weight[0], before[name][0])
        assert torch.equal(weight[1:], before[name][1:])
    assert all(torch.isfinite(value).all() for value in optimiser.tensors().values())


@pytest.mark.parametrize("kind", ["plain", "stack", "sharded"])
def test_a_restored_optimiser_goes_on_bit_for_bit(kind):
    def start() -> tuple[nn.Module, StackedAdamW | ShardedAdamW]:
        model = models(3 if kind == "stack" else None)
        if kind == "sharded":
            return model, ShardedAdamW(dict(model.named_parameters()), SETTINGS, RULES)
        return model, StackedAdamW(
            dict(model.named_parameters()), SETTINGS, RULES, members=3 if kind == "stack" else None
        )

    model, optimiser = start()
    for step in range(6):
        give(model, gradients(step), None if kind == "stack" else 0)
        optimiser.step(0.01)
        if step == 2:
            weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
            state = optimiser.tensors()
            assert {name for name in state if name != "steps"} == {
                f"{name}.{key}" for name in SHAPES for key in ("exp_avg", "exp_avg_sq")
            }
    again, optimiser = start()
    with torch.no_grad():
        for name, weight in again.named_parameters():
            weight.copy_(weights[name])
    optimiser.restore(state)
    for step in range(3, 6):
        give(again, gradients(step), None if kind == "stack" else 0)
        optimiser.step(0.01)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_sharded_and_stacked_take_the_same_steps():
    ours, theirs = models(None), models(None)
    a = StackedAdamW(dict(ours.named_parameters()), SETTINGS, RULES)
    b = ShardedAdamW(dict(theirs.named_parameters()), SETTINGS, RULES)
    for step in range(5):
        give(ours, gradients(step), 0)
        give(theirs, gradients(step), 0)
        assert a.step(0.02) == pytest.approx(b.step(0.02), rel=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
