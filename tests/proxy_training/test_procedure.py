import pytest
from pydantic import ValidationError

from curate.proxy_training.planning.ladder_file import load_ladder
from curate.proxy_training.procedure import Procedure, Size, Tuned, settle_precision

BASE = Procedure(tokenizer="t", sequence_length=256, precision="fp32", compile="eager")
TUNED = Tuned(
    ladder="demo", rungs=("a",), seeds=(0, 1), mixture="m", evaluation="e", procedure="p", date="2026-01-01"
)  # fmt: skip
OTHERS = {
    "precision": "bf16",
    "compile": "blocks",
    "schedule": "cosine",
    "decay_shape": "one_minus_sqrt",
    "parametrisation": "completep",
    "model_size": "non_embedding",
    "qk_norm": "none",
    "norm": "layer",
}


def changed(field: str) -> Procedure:
    value = getattr(BASE, field)
    other = OTHERS.get(field)
    if other is None:
        if isinstance(value, bool):
            other = not value
        elif isinstance(value, str):
            other = value + "x"
        else:
            other = value * 0.5 if isinstance(value, float) and value else value + 1
    return BASE.model_copy(update={field: other})


@pytest.mark.parametrize("field", sorted(set(Procedure.model_fields) - {"tuned"}))
def test_every_field_that_can_change_a_loss_is_in_the_fingerprint(field: str) -> None:
    assert changed(field).fingerprint() != BASE.fingerprint()


def test_where_constants_come_from_changes_no_fingerprint() -> None:
    """Two ladders of equal constants measure alike, whoever tuned them and on which day."""
    assert BASE.model_copy(update={"tuned": TUNED}).fingerprint() == BASE.fingerprint()


def test_equal_procedures_have_equal_fingerprints_and_cannot_change() -> None:
    same = Procedure(compile="eager", precision="fp32", sequence_length=256, tokenizer="t")
    assert same.fingerprint() == BASE.fingerprint()
    with pytest.raises(ValidationError):
        BASE.beta1 = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("ladder", "scale", "batch_tokens", "rate", "warmup"),
    [
        ("demo", "0.06M", 1024, 0.035, 20),
        ("demo", "0.5M", 1024, 0.035, 29),
        ("laptop", "0.25M", 1024, 0.035, 39),
        ("laptop", "4M", 1024, 0.035, 73),
    ],
)
def test_the_shipped_ladders_get_the_measured_rates(
    ladder: str, scale: str, batch_tokens: int, rate: float, warmup: int
) -> None:
    file = load_ladder(ladder)
    procedure = Procedure(
        **file.procedure.model_dump(),
        tokenizer="t",
        sequence_length=file.sequence_length,
        precision="fp32",
        compile="eager",
    )
    one = file.scale(scale)
    shape = one.shape(procedure, vocab_size=file.vocab_size, sequence_length=file.sequence_length)
    size = Size(shape.params, shape.params_non_embedding, one.budgets_tokens)
    assert procedure.batch_sequences(size) * file.sequence_length == batch_tokens
    assert procedure.learning_rate(size, batch_tokens=batch_tokens) == pytest.approx(rate, rel=0.01)
    assert procedure.warmup_steps(size, batch_tokens=batch_tokens) == warmup


def test_under_cosine_budgets_share_no_trunk() -> None:
    assert BASE.decay_start(100) == 80
    assert BASE.model_copy(update={"schedule": "cosine"}).decay_start(100) == 0


def test_precision_is_settled_by_the_machine_not_by_a_timing() -> None:
    assert settle_precision("fp32", compiled=True) == "fp32"
    assert settle_precision("bf16", compiled=False) == "bf16"
    assert settle_precision("auto", compiled=False) == "fp32"
    assert settle_precision("auto", compiled=True) == settle_precision("auto", compiled=True)
