"""AdamW with clipping for one model or a stack of them (Loshchilov and Hutter 2019).

Members of a stack have learning rates of their own, are clipped on their own and leave one by one; each takes the step
that it would take alone, bit for bit, in one fused kernel over its slices of all weights. Weights that are DTensors
(FSDP2) have the same interface on torch's own AdamW and clipping. A step costs 1 to 4% of training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from curate.proxy_training.network.parametrisation import Decayed, Parametrisation

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TensorRule:
    """Multipliers of one weight, from the parametrisation."""

    learning_rate: float = 1.0
    """Of the learning rate."""
    weight_decay: float = 1.0
    """Of the weight decay, 0 for none; a step takes (learning rate x decay) of the weight away."""
    eps: float = 1.0
    """Of what is added to the root of the second moment."""


@dataclass(frozen=True)
class AdamSettings:
    """What the procedure sets."""

    beta1: float
    """Decay of the mean of gradients."""
    beta2: float
    """Decay of the mean of their squares."""
    eps: float
    """Added to the root of the second moment."""
    weight_decay: float
    """Decoupled, times the learning rate."""
    clip_norm: float
    """Largest norm of a member's gradient."""


def tensor_rules(model: nn.Module, rule: Parametrisation, *, decayed: Decayed = "matrices") -> dict[str, TensorRule]:
    """What the parametrisation multiplies each weight's rate, decay and eps by."""
    return {
        name: TensorRule(
            rule.learning_rate_multiplier(name),
            rule.weight_decay_multiplier(name, decayed),
            rule.adam_eps_multiplier(name),
        )
        for name, _ in model.named_parameters()
    }


class Optimiser(Protocol):
    """What the trainer needs; a plain model is a group of one."""

    def step(self, learning_rates: float | Sequence[float]) -> list[float]:
        """Clip, update, forget the gradients; returns each member's gradient norm before clipping.

        A member whose norm is not finite, or that was taken out, keeps its weights and moments as they are.
        """
        ...

    def take_out(self, member: int) -> None:
        """This member is not updated any more; its norm is 0 from now on."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the state: "<weight>.exp_avg" and "<weight>.exp_avg_sq", shaped like the weight; "steps" (M,)."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what `tensors` were taken from."""
        ...


def make_optimiser(
    model: nn.Module, settings: AdamSettings, rules: Mapping[str, TensorRule], *, members: int | None = None
) -> Optimiser:
    """The optimiser for where the weights of `model` lie; `rules` by the names of its `named_parameters()`.

    Make it when the model is on its device and cut over ranks (DDP may come before or after).
    """
    weights = dict(model.named_parameters())
    if any(isinstance(weight, DTensor) for weight in weights.values()):
        return ShardedAdamW(weights, settings, rules)
    return StackedAdamW(weights, settings, rules, members=members)


class StackedAdamW:
    """For whole weights on one device, of a plain model or a stack."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        settings: AdamSettings,
        rules: Mapping[str, TensorRule],
        *,
        members: int | None = None,
    ) -> None:
        self.weights = dict(weights)
        self.settings = settings
        self.members = members
        self.active = [True] * (members or 1)
        device = next(iter(self.weights.values())).device
        self.moments = {
            name: tuple(torch.zeros_like(weight, memory_format=torch.contiguous_format) for _ in MOMENTS)
            for name, weight in self.weights.items()
        }
        self.steps = [torch.zeros((), dtype=torch.float32, device=device) for _ in self.active]
        self.classes: dict[TensorRule, list[str]] = {}
        for name in self.weights:
            self.classes.setdefault(rules[name], []).append(name)

    def step(self, learning_rates: float | Sequence[float]) -> list[float]:
        """See Optimiser."""
        rates = [learning_rates] * len(self.active) if isinstance(learning_rates, int | float) else list(learning_rates)
        norms = [
            self._step_of(member, rate) if active else 0.0
            for member, (rate, active) in enumerate(zip(rates, self.active, strict=True))
        ]
        for weight in self.weights.values():
            weight.grad = None
        return norms

    @torch.no_grad()
    def _step_of(self, member: int, rate: float) -> float:
        """Clip and update one member; returns its norm."""
        gradients = {name: self._part(weight.grad, member) for name, weight in self.weights.items()}
        total = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients.values()))))
        norm = float(total)
        if not math.isfinite(norm):
            return norm
        if norm > self.settings.clip_norm - 1e-5:  # else the factor is 1; it rounds as torch's own does
            torch._foreach_mul_(list(gradients.values()), (self.settings.clip_norm / (total + 1e-6)).clamp(max=1.0))
        self.steps[member] += 1
        for rule, names in self.classes.items():
            torch._fused_adamw_(
                [self._part(self.weights[name].detach(), member) for name in names],
                [gradients[name] for name in names],
                [self._part(self.moments[name][0], member) for name in names],
                [self._part(self.moments[name][1], member) for name in names],
                [],
                [self.steps[member]] * len(names),
                lr=rate * rule.learning_rate,
                beta1=self.settings.beta1,
                beta2=self.settings.beta2,
                weight_decay=self.settings.weight_decay * rule.weight_decay,
                eps=self.settings.eps * rule.eps,
                amsgrad=False,
                maximize=False,
            )
        return norm

    def _part(self, tensor: Tensor | None, member: int) -> Tensor:
        """The slice of a member."""
        if tensor is None:
            raise ValueError("every weight needs a gradient before a step")
        return tensor if self.members is None else tensor[member]

    def take_out(self, member: int) -> None:
        """See Optimiser."""
        self.active[member] = False

    def tensors(self) -> dict[str, Tensor]:
        """See Optimiser."""
        state = {
            f"{name}.{key}": moment.to("cpu", copy=True)  # a GPU holds its state once
            for name, moments in self.moments.items()
            for key, moment in zip(MOMENTS, moments, strict=True)
        }
        return state | {"steps": torch.stack(self.steps).cpu()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See Optimiser."""
        for name, moments in self.moments.items():
            for key, moment in zip(MOMENTS, moments, strict=True):
                moment.copy_(tensors[f"{name}.{key}"])
        for step, value in zip(self.steps, tensors["steps"], strict=True):
            step.copy_(value)


class ShardedAdamW:
    """For weights that FSDP2 cut over ranks: torch's AdamW and clipping; a group of one. `adamw` is for DCP."""

    def __init__(self, weights: Mapping[str, Tensor], settings: AdamSettings, rules: Mapping[str, TensorRule]) -> None:
        self.weights = dict(weights)
        self.settings = settings
        classes: dict[TensorRule, list[Tensor]] = {}
        for name, weight in self.weights.items():
            classes.setdefault(rules[name], []).append(weight)
        self.rates = [rule.learning_rate for rule in classes]
        self.adamw = torch.optim.AdamW(
            [
                {
                    "params": some,
                    "weight_decay": settings.weight_decay * rule.weight_decay,
                    "eps": settings.eps * rule.eps,
                }
                for rule, some in classes.items()
            ],
            lr=0.0,
            betas=(settings.beta1, settings.beta2),
            fused=next(iter(self.weights.values())).device.type == "cuda",
        )

    def step(self, learning_rates: float | Sequence[float]) -> list[float]:
        """See Optimiser."""
        rate = learning_rates if isinstance(learning_rates, int | float) else learning_rates[0]
        total = torch.nn.utils.clip_grad_norm_(self.weights.values(), self.settings.clip_norm)
        norm = float(total.full_tensor() if isinstance(total, DTensor) else total)
        if math.isfinite(norm):
            for group, multiplier in zip(self.adamw.param_groups, self.rates, strict=True):
                group["lr"] = rate * multiplier
            self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return [norm]

    def take_out(self, member: int) -> None:
        """A model cut over ranks is alone in its group."""
        raise ValueError("a sharded model is a group of one: nothing can be taken out")

    def tensors(self) -> dict[str, Tensor]:
        """See Optimiser: this rank's shards, as DTensors."""
        state: dict[str, Tensor] = {}
        steps = 0.0
        for name, weight in self.weights.items():
            moments = self.adamw.state.get(weight, {})
            steps = max(steps, float(moments.get("step", 0.0)))
            for key in MOMENTS:
                state[f"{name}.{key}"] = moments[key].clone() if key in moments else torch.zeros_like(weight)
        return state | {"steps": torch.tensor([steps])}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See Optimiser."""
        for name, weight in self.weights.items():
            self.adamw.state[weight] = {
                # a copy for each weight, where the weight is: the fused kernel counts there
                "step": tensors["steps"][0].to(weight.device, torch.float32, copy=True),
                **{key: tensors[f"{name}.{key}"].clone() for key in MOMENTS},
            }
