import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.errors import RecipeError
from curate.proxy_training.planning.rules import RULES, RuleConstants, Size
from curate.proxy_training.procedure import Rules


def size(params: float, *, tokens: float = 0, non_embedding: float | None = None) -> Size:
    longest = round(tokens or 100 * params)
    return Size(round(params), round(non_embedding or 0.8 * params), (longest // 4, longest))


@pytest.mark.parametrize(
    ("constants", "what"),
    [
        ({"batch_data_exponent": 1e9}, "batch of inf"),
        ({"learning_rate_data_exponent": -1e9}, "learning rate of 0"),
        ({"learning_rate_data_exponent": 1e9}, "learning rate of inf"),
    ],
)
def test_a_law_that_leaves_the_numbers_is_an_error_and_not_its_bound(constants: dict[str, float], what: str) -> None:
    rule = RuleConstants(**constants)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=f"give a {what}"):
        rule.learning_rate(size(1e6), batch_tokens=round(rule.batch_tokens(size(1e6))))


# name, batch (sequences of 2,048), learning rate, parameters, as DataDecide's table has them (Magnusson et al. 2025)
DATADECIDE = [
    ("4M", 32, 1.4e-2, 3.7e6),
    ("6M", 32, 1.2e-2, 6.0e6),
    ("10M", 32, 1.0e-2, 9.9e6),
    ("16M", 32, 8.9e-3, 16.0e6),
    ("20M", 64, 8.4e-3, 19.1e6),
    ("60M", 96, 5.8e-3, 57.1e6),
    ("150M", 192, 4.2e-3, 151.9e6),
    ("300M", 320, 3.3e-3, 320.0e6),
    ("1B", 704, 2.1e-3, 1176.8e6),
]


@pytest.mark.parametrize(("name", "batch", "rate", "params"), DATADECIDE)
def test_datadecide_gives_the_rates_of_its_table(name: str, batch: int, rate: float, params: float) -> None:
    rule = RuleConstants(rule="datadecide")
    assert rule.learning_rate(size(params), batch_tokens=batch * 2048) == pytest.approx(rate, rel=0.05)


def test_datadecide_gives_the_batches_of_its_table_from_60m_on_and_smaller_ones_below() -> None:
    """The table steps by 32 sequences, never below 32; its 1B row is 704 where the law says 786."""
    rule = RuleConstants(rule="datadecide")
    by_law = {name: rule.batch_tokens(size(params)) / 2048 for name, _, _, params in DATADECIDE}
    table = {name: batch for name, batch, _, _ in DATADECIDE}
    for name in ("60M", "150M", "300M", "1B"):
        assert by_law[name] == pytest.approx(table[name], rel=0.13), name
    assert by_law["4M"] < 32


def test_steplaw_is_the_published_law_of_parameters_without_embeddings() -> None:
    """1B parameters on 100B tokens, the paper's largest setting."""
    rule = RuleConstants(rule="steplaw")
    asked = size(1.2e9, tokens=100e9, non_embedding=1.0e9)
    assert rule.learning_rate(asked, batch_tokens=1) == pytest.approx(1.79 * 1e9**-0.713 * 1e11**0.307)
    assert rule.learning_rate(asked, batch_tokens=1) == pytest.approx(1.63e-3, rel=0.01)
    assert rule.batch_tokens(asked) == pytest.approx(0.58 * 1e11**0.571)
    assert rule.batch_tokens(asked) == pytest.approx(1.1e6, rel=0.03)


def test_steplaw_reads_the_longest_budget_because_branches_share_a_trunk() -> None:
    rule = RuleConstants(rule="steplaw")
    short, long = Size(10**8, 10**8, (10**9,)), Size(10**8, 10**8, (10**7, 10**9))
    assert rule.learning_rate(short, batch_tokens=1) == rule.learning_rate(long, batch_tokens=1)


def test_open_sci_ref_gives_the_rows_of_its_wsd_table_at_every_size() -> None:
    rule = RuleConstants(rule="open_sci_ref")
    for params in (0.13e9, 0.4e9, 1.31e9, 1.71e9):
        asked = size(params, tokens=50e9)
        assert rule.learning_rate(asked, batch_tokens=2**22) == 4e-3
        assert rule.batch_tokens(asked) == 4_194_304
        assert rule.warmup_steps(asked, batch_tokens=2**22) == 1000
    assert rule.weight_decay == 0.05


@pytest.mark.parametrize("name", ["mup", "completep"])
def test_under_mup_the_rate_does_not_follow_the_size_but_the_root_of_the_batch(name: str) -> None:
    rule = RuleConstants(rule=name)
    assert rule.parametrisation == name
    rates = {rule.learning_rate(size(params), batch_tokens=1024) for params in (1e5, 1e7, 1e9)}
    assert rates == {rule.base_learning_rate}
    assert rule.learning_rate(size(1e7), batch_tokens=4096) == pytest.approx(2 * rule.base_learning_rate)


def test_the_default_is_mup() -> None:
    assert RuleConstants().parametrisation == "mup"
    assert RuleConstants() == RuleConstants(rule="mup")


def test_measured_is_datadecides_law_with_bounds_and_the_root_of_the_batch() -> None:
    default, datadecide = RuleConstants(rule="measured"), RuleConstants(rule="datadecide")
    asked = size(108e6)
    batch = round(datadecide.batch_tokens(asked))
    assert default.learning_rate(asked, batch_tokens=batch) == datadecide.learning_rate(asked, batch_tokens=batch)
    quarter = default.learning_rate(asked, batch_tokens=batch // 4)
    assert quarter == pytest.approx(datadecide.learning_rate(asked, batch_tokens=batch) / 2)
    assert default.learning_rate(size(1000), batch_tokens=1024) == 0.02
    assert default.batch_tokens(size(1000)) == 1024


def test_warm_up_lasts_n_tokens_but_at_most_a_tenth_of_the_smallest_budget() -> None:
    rule = RuleConstants()
    assert rule.warmup_steps(Size(6000, 6000, (200_000,)), batch_tokens=2000) == 3
    assert rule.warmup_steps(Size(10**9, 10**9, (200_000, 10**9)), batch_tokens=2000) == 10
    assert rule.warmup_steps(Size(10, 10, (200_000,)), batch_tokens=2000) == 1


def test_constants_given_beside_a_rule_replace_its_own_and_the_rest_stay() -> None:
    rule = Rules.model_validate({"rule": "steplaw", "base_learning_rate": 2.0})
    assert (rule.base_learning_rate, rule.learning_rate_exponent, rule.weight_decay) == (2.0, -0.713, 0.1)
    back = Rules.model_validate({"rule": "steplaw", "weight_decay": 0.05})
    assert back.weight_decay == 0.05  # the default's number, given, is not the rule's


def test_dumping_and_reading_keeps_every_constant() -> None:
    for name in RULES:
        rules = Rules(rule=name)
        assert Rules.model_validate(rules.model_dump(mode="json")) == rules


@pytest.mark.parametrize(
    ("given_fields", "said"),
    [
        ({"rule": "chinchilla"}, "no rule is called 'chinchilla': take measured, datadecide"),
        ({"rule": "measured", "parametrisation": "mup"}, "already lowers rates with width"),
        ({"batch_tokens_min": 8192, "batch_tokens_max": 4096}, "batch_tokens_min 8192 is above batch_tokens_max 4096"),
        ({"learning_rate_at_108m": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(given_fields: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Rules.model_validate(given_fields)


@given(
    name=st.sampled_from(sorted(RULES)),
    params=st.integers(10_000, 10**10),
    tokens=st.integers(10**5, 10**13),
    batch=st.integers(256, 2**23),
)
def test_every_rule_answers_everywhere_and_larger_models_never_get_larger_rates(
    name: str, params: int, tokens: int, batch: int
) -> None:
    rule = RuleConstants(rule=name)
    small, large = Size(params, params // 2, (tokens,)), Size(2 * params, params, (tokens,))
    rates = [rule.learning_rate(one, batch_tokens=batch) for one in (small, large)]
    assert 0 < rates[1] <= rates[0] <= rule.learning_rate_max
    assert rule.batch_tokens_min <= rule.batch_tokens(small) <= rule.batch_tokens_max
    warmup = rule.warmup_steps(small, batch_tokens=batch)
    assert warmup == 1 or warmup * batch <= 0.5 * tokens + batch
    assert all(math.isfinite(rate) for rate in rates)


def test_a_size_outside_what_a_rule_was_found_on_is_told() -> None:
    said = RULES["steplaw"].outside(size(1e6))
    assert said is not None and "60M to 1100M non-embedding parameters; 0.8M is outside" in said
    assert RULES["steplaw"].outside(size(500e6)) is None
    assert RULES["measured"].outside(size(1e6)) is None
