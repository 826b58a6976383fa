import pytest
from pydantic import ValidationError

from curate.proxy_training.procedure import Procedure, scheduled_learning_rate, settle_precision

BASE = Procedure(tokenizer="t", sequence_length=256, precision="fp32", compile="eager")


def changed(field: str) -> Procedure:
    value = getattr(BASE, field)
    other = {"precision": "bf16", "compile": "blocks"}.get(field)
    if other is None:
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, str):
            other = value + "x"
        else:
            other = value * 0.5 if isinstance(value, float) and value else value + 1
    return BASE.model_copy(update={field: other})


@pytest.mark.parametrize("field", sorted(Procedure.model_fields))
def test_every_field_is_in_the_fingerprint(field: str) -> None:
    assert changed(field).fingerprint() != BASE.fingerprint()


def test_equal_procedures_have_equal_fingerprints_and_cannot_change() -> None:
    same = Procedure(compile="eager", precision="fp32", sequence_length=256, tokenizer="t")
    assert same.fingerprint() == BASE.fingerprint()
    with pytest.raises(ValidationError):
        BASE.beta1 = 0.5  # type: ignore[misc]


def test_the_rules_give_the_rates_and_batches_that_datadecide_ran() -> None:
    """Its 4M (3.7M parameters), 150M (151.9M) and 1B (1,176.8M) rows: learning rates 1.4e-2, 4.2e-3, 2.1e-3."""
    for params, rate in ((3.7e6, 1.4e-2), (151.9e6, 4.2e-3), (1176.8e6, 2.1e-3)):
        batch = round(160 * 2048 * (params / 108e6) ** (2 / 3))
        assert BASE.learning_rate(int(params), batch_tokens=batch) == pytest.approx(rate, rel=0.04)
    rules = BASE.model_copy(update={"sequence_length": 2048, "batch_tokens_max": 2**30})
    assert rules.batch_sequences(int(151.9e6)) == pytest.approx(192, rel=0.05)
    assert rules.batch_sequences(108_000_000) == 160


def test_a_quarter_of_the_batch_halves_the_learning_rate() -> None:
    whole, quarter = (BASE.learning_rate(10**8, batch_tokens=batch) for batch in (262_144, 65_536))
    assert quarter == pytest.approx(whole / 2)


def test_the_smallest_models_stay_within_the_bounds() -> None:
    assert BASE.learning_rate(1000, batch_tokens=1024) == BASE.learning_rate_max
    assert BASE.batch_sequences(1000) * 256 == BASE.batch_tokens_min
    assert BASE.warmup_steps(10**9, batch_tokens=2000, smallest_budget_tokens=200_000) == 10
    assert BASE.warmup_steps(6000, batch_tokens=2000, smallest_budget_tokens=200_000) == 3
    assert BASE.warmup_steps(10, batch_tokens=2000, smallest_budget_tokens=200_000) == 1


def test_the_schedule_rises_stays_and_falls_linearly() -> None:
    start = BASE.decay_start(100)
    assert start == 80
    trunk = [scheduled_learning_rate(step, peak=1.0, warmup_steps=4) for step in range(100)]
    branch = [scheduled_learning_rate(step, peak=1.0, warmup_steps=4, decay=(start, 100)) for step in range(100)]
    assert trunk[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert set(trunk[4:]) == {1.0}
    assert branch[:80] == trunk[:80]
    falls = [a - b for a, b in zip(branch[79:], [*branch[80:], 0.0], strict=True)]
    assert falls == pytest.approx([1 / 21] * 21)
    assert all(rate > 0 for rate in branch)


def test_precision_is_settled_by_the_machine_not_by_a_timing() -> None:
    assert settle_precision("fp32", compiled=True) == "fp32"
    assert settle_precision("bf16", compiled=False) == "bf16"
    assert settle_precision("auto", compiled=False) == "fp32"
    assert settle_precision("auto", compiled=True) == settle_precision("auto", compiled=True)
