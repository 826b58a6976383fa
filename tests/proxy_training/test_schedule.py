from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.proxy_training.evaluate import HeldOutSet
from curate.proxy_training.planning.schedule import decay_start, scheduled_learning_rate
from curate.proxy_training.run import Run

TRAININGS = {
    "steps": st.integers(2, 400),
    "warmup": st.integers(1, 100),
    "schedule": st.sampled_from(["wsd", "cosine"]),
    "shape": st.sampled_from(["linear", "one_minus_sqrt"]),
    "fraction": st.floats(0.05, 0.9),
    "final": st.floats(0, 2),
}


@given(**TRAININGS)
def test_rates_rise_to_the_peak_and_never_again_after_the_warm_up(
    steps: int, warmup: int, schedule: str, shape: str, fraction: float, final: float
) -> None:
    start = decay_start(steps, schedule=schedule, decay_fraction=fraction)
    rates = [
        scheduled_learning_rate(
            i, peak=1.0, warmup_steps=warmup, decay=(start, steps), schedule=schedule, shape=shape, final=final
        )
        for i in range(steps)
    ]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[: min(start, warmup)] == [(i + 1) / warmup for i in range(min(start, warmup))]
    after = rates[max(start, warmup) :]
    assert after == sorted(after, reverse=True)
    assert all(rate >= min(1.0, final) - 1e-12 for rate in after)


@given(**TRAININGS)
def test_a_branch_is_the_trunk_until_it_cools_down(
    steps: int, warmup: int, schedule: str, shape: str, fraction: float, final: float
) -> None:
    start = decay_start(steps, schedule=schedule, decay_fraction=fraction)
    trunk = [scheduled_learning_rate(i, peak=0.3, warmup_steps=warmup) for i in range(start)]
    branch = [
        scheduled_learning_rate(
            i, peak=0.3, warmup_steps=warmup, decay=(start, steps), schedule=schedule, shape=shape, final=final
        )
        for i in range(start)
    ]
    assert branch == trunk
    assert 0 <= start < steps
    assert start == 0 or schedule == "wsd"


def test_the_linear_cool_down_falls_by_equal_steps_and_would_reach_zero_one_step_later() -> None:
    start = decay_start(100, decay_fraction=0.2)
    assert start == 80
    branch = [scheduled_learning_rate(i, peak=1.0, warmup_steps=4, decay=(start, 100)) for i in range(100)]
    assert branch[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    falls = [a - b for a, b in zip(branch[79:], [*branch[80:], 0.0], strict=True)]
    assert falls == pytest.approx([1 / 21] * 21)


def test_one_minus_sqrt_is_lower_than_linear_all_the_way_and_falls_fastest_at_first() -> None:
    linear, root = (
        [scheduled_learning_rate(i, peak=1.0, warmup_steps=1, decay=(0, 50), shape=shape) for i in range(50)]
        for shape in ("linear", "one_minus_sqrt")
    )
    assert all(a < b for a, b in zip(root, linear, strict=True))
    assert root[24] == pytest.approx(1 - (25 / 51) ** 0.5)


def test_a_floor_is_where_the_cool_down_ends() -> None:
    """DCLM cools from 3e-3 to 3e-5."""
    last = scheduled_learning_rate(9_999, peak=3e-3, warmup_steps=1, decay=(8_000, 10_000), final=3e-5)
    assert last == pytest.approx(3e-5, rel=0.06)
    assert last > 3e-5


def test_cosine_is_half_way_down_in_the_middle() -> None:
    rates = [
        scheduled_learning_rate(i, peak=1.0, warmup_steps=10, decay=(0, 110), schedule="cosine") for i in range(110)
    ]
    assert rates[:10] == [(i + 1) / 10 for i in range(10)]
    assert rates[59] == pytest.approx(0.5, abs=0.01)
    assert rates[-1] == pytest.approx(0, abs=1e-3)


def test_a_branch_ends_where_a_training_of_its_budget_alone_ends_bit_for_bit(
    make_run: Callable[..., Run], heldout: dict[str, HeldOutSet], tmp_path: Path
) -> None:
    from curate.proxy_training.train import train_run

    branching = make_run()
    alone = replace(
        branching,
        scale=branching.scale.model_copy(
            update={"budgets_tokens": branching.scale.budgets_tokens[1:2], "warmup_steps": branching.warmup_steps}
        ),
    )
    points, (separate,) = (
        train_run(run, heldout, folder=tmp_path / name)["points"]
        for name, run in (("branching", branching), ("alone", alone))
    )
    assert points[1]["tokens"] == separate["tokens"] == 4096
    assert points[1]["bits_per_byte"] == separate["bits_per_byte"]
    assert points[2]["bits_per_byte"] != separate["bits_per_byte"]
