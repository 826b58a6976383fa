"""The plan of a ladder, against what the publications print and what a trainer would do."""

import io
import json
import math
import re

import pytest
from rich.console import Console

from curate.errors import RecipeError
from curate.proxy_training.packing import TokenizedDataset
from curate.proxy_training.planning.device_costs import DEVICES, Device, cpu_tokens_per_second, memory_bytes
from curate.proxy_training.planning.expand import LearningRates, runs_of
from curate.proxy_training.planning.ladder_file import load_ladder
from curate.proxy_training.planning.plan import LadderPlan, Rung, plan_ladder, planned_run
from curate.proxy_training.planning.plan_notes import agrees, counted_params
from curate.report.ladder_view import ladder_view

DATADECIDE = {
    # name: exact parameters, printed millions, batch, rate, heads, layers, steps, printed tokens in billions
    "4M": (3_744_832, 3.7, 32, 1.4e-2, 8, 8, 5_725, 0.4),
    "6M": (6_010_464, 6.0, 32, 1.2e-2, 8, 8, 9_182, 0.6),
    "8M": (8_538_240, 8.5, 32, 1.1e-2, 8, 8, 13_039, 0.9),
    "10M": (9_900_432, 9.9, 32, 1.0e-2, 8, 8, 15_117, 1.0),
    "14M": (14_380_224, 14.4, 32, 9.2e-3, 8, 8, 21_953, 1.4),
    "16M": (16_004_560, 16.0, 32, 8.9e-3, 8, 8, 24_432, 1.6),
    "20M": (19_101_888, 19.1, 64, 8.4e-3, 8, 16, 14_584, 1.9),
    "60M": (57_078_144, 57.1, 96, 5.8e-3, 12, 16, 29_042, 5.7),
    "90M": (97_946_640, 97.9, 160, 4.9e-3, 12, 16, 29_901, 9.8),
    "150M": (151_898_880, 151.9, 192, 4.2e-3, 12, 12, 38_157, 15.0),
    "300M": (319_980_544, 320.0, 320, 3.3e-3, 16, 16, 45_787, 30.0),
    "530M": (530_074_944, 530.1, 448, 2.8e-3, 16, 16, 57_786, 53.0),
    "750M": (681_297_408, 681.3, 576, 2.5e-3, 16, 16, 63_589, 75.0),
    "1B": (1_176_832_000, 1176.8, 704, 2.1e-3, 16, 16, 69_369, 100.0),
}
DCLM = {
    # name: parameters, parameters without the first embedding, tokens, warm-up, rate, decay, batch, z-loss
    "400M-1x": (411_616_256, 359_973_888, 8_232_325_120, 2000, 3e-3, 0.033, 512, 1e-4),
    "1B-1x": (1_439_795_200, 1_336_510_464, 28_795_904_000, 5000, 3e-3, 0.033, 256, 1e-4),
    "3B-1x": (2_795_932_160, 2_666_826_240, 55_918_643_200, 5000, 3e-3, 0.033, 256, 1e-4),
    "7B-1x": (6_889_410_560, 6_682_841_088, 137_788_211_200, 5000, 2e-3, 0.05, 2048, 5e-6),
    "7B-2x": (6_889_410_560, 6_682_841_088, 275_576_422_400, 5000, 2e-3, 0.05, 2048, 5e-6),
}
# tokens/GPU/s and TFLOP/s as open-sci-ref prints them
THROUGHPUT = [
    ("0.13B", 87_710, 114),
    ("0.4B", 44_550, 157),
    ("1.3B", 16_800, 172),
    ("1.7B", 14_490, 184),
    ("1.7B", 29_170, 370),
]


def plan_of(name: str) -> LadderPlan:
    return plan_ladder(load_ladder(name))


def by_name(plan: LadderPlan) -> dict[str, Rung]:
    return {rung.scale.name: rung for rung in plan.rungs}


def printed(plan: LadderPlan, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(ladder_view(plan, width=width))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_datadecide_is_its_table() -> None:
    rungs = by_name(plan_of("datadecide"))
    assert list(rungs) == list(DATADECIDE)
    for name, (params, millions, batch, rate, heads, layers, steps, billions) in DATADECIDE.items():
        rung = rungs[name]
        assert rung.shape.params == params
        assert round(params / 1e6, 1) == millions
        assert (rung.batch_sequences, rung.learning_rate) == (batch, rate)
        assert (rung.shape.heads, rung.shape.layers) == (heads, layers)
        assert rung.budgets[0].steps == steps
        assert round(rung.budgets[0].tokens / 1e9, 1) == billions
        assert rung.scale.seeds == 3
        assert rung.procedure.final_learning_rate == pytest.approx(rate / 100)
        assert {what for what, _ in rung.agrees} == {"parameters", "tokens"}


def test_datadecides_table_is_its_rule_to_the_next_32_sequences_and_ten_more_steps() -> None:
    for name, (params, _, batch, _, _, _, steps, _) in DATADECIDE.items():
        nominal = float(name[:-1]) * (1e9 if name.endswith("B") else 1e6)
        counted = params if params < 1e8 else nominal  # the name's size from 150M on
        assert batch == 32 * max(1, round(160 * (counted / 108e6) ** (2 / 3) / 32)), name
        more = 20 if name == "530M" else 10
        assert steps == math.ceil(100 * counted / (batch * 2048)) + more, name


def test_the_plan_says_where_datadecides_rule_misses_its_table() -> None:
    rungs = by_name(plan_of("datadecide"))
    assert rungs["1B"].rule_differs == {"batch": "704 (rule 786)", "steps": "69,369 (rule 81,623)"}
    assert rungs["750M"].rule_differs["batch"] == "576 (rule 546)"
    assert not any("learning rate" in rung.rule_differs for rung in rungs.values())


def test_dclm_is_its_configuration() -> None:
    rungs = by_name(plan_of("dclm"))
    assert list(rungs) == list(DCLM)
    for name, (params, no_embed, tokens, warmup, rate, decay, batch, z_loss) in DCLM.items():
        rung = rungs[name]
        assert counted_params(planned_run(load_ladder("dclm"), rung.scale)) == params
        assert params - rung.shape.parameters_embedding == no_embed
        of_queries_and_keys = rung.shape.layers * 2 * rung.shape.width  # which open_lm's count leaves out
        assert rung.shape.params_stored == params + of_queries_and_keys
        assert rung.scale.budgets_tokens == (tokens,)
        assert abs(rung.budgets[0].tokens - tokens) <= rung.batch_tokens / 2
        assert (rung.warmup_steps, rung.learning_rate, rung.batch_sequences) == (warmup, rate, batch)
        settings = rung.procedure
        assert (settings.weight_decay, settings.z_loss, settings.final_learning_rate) == (decay, z_loss, 3e-5)
        assert settings.schedule == "cosine"
    assert len({rung.procedure.fingerprint() for rung in rungs.values()}) == 2  # as settled: 7B has its own
    runs = [planned_run(load_ladder("dclm"), scale) for scale in load_ladder("dclm").scales]
    assert len({run.procedure.fingerprint() for run in runs}) == 1


def test_dclms_flops_are_the_printed_ones_but_one_which_the_plan_names() -> None:
    plan = plan_of("dclm")
    flops = [text for rung in plan.rungs for what, text in rung.agrees if what.startswith("FLOPs")]
    assert flops == ["2.0e19", "9.4e20", "5.7e21", "1.1e22"]
    assert any("2.4e20 printed, 2.488e+20 here" in note for note in by_name(plan)["1B-1x"].notes)


def test_open_sci_ref_has_its_iterations_and_sizes() -> None:
    rungs = by_name(plan_of("open_sci_ref"))
    for size, params in (("0.13B", 0.13), ("0.4B", 0.40), ("1.3B", 1.31), ("1.7B", 1.71)):
        long, short = rungs[size], rungs[f"{size}-50B"]
        assert long.shape == short.shape
        assert round(long.shape.params / 1e9, 2) == params
        assert (short.batch_sequences, short.warmup_steps) == (1024, 1000)
        assert (long.batch_sequences, long.warmup_steps) == (1008, 25_000)
        assert (short.budgets[0].steps, short.budgets[0].decay_steps) == (11_921, 2_384)
        assert (long.budgets[0].steps, long.budgets[0].decay_steps) == (72_661, 14_532)
        assert long.learning_rate == short.learning_rate == 4e-3
    assert [budget.steps for budget in rungs["1.7B"].budgets] == [72_661, 242_204]


def test_open_sci_refs_tokens_follow_from_batch_and_iterations_and_its_50b_row_from_another_batch() -> None:
    for steps, tokens in ((72_661, 300e9), (242_204, 1000e9)):
        assert steps * 1008 * 4096 == pytest.approx(tokens, rel=1e-5)
    printed, ours = 11_921 * 1008 * 4096, 11_921 * 1024 * 4096
    assert printed == pytest.approx(49.2e9, rel=1e-3)
    assert ours == pytest.approx(50e9, rel=1e-5)
    short, long = by_name(plan_of("open_sci_ref"))["1.3B-50B"], by_name(plan_of("open_sci_ref"))["1.7B"]
    assert any("disagrees with itself" in note for note in short.notes)
    assert "tokens a batch: 4.12M printed, 4,194,304 here" in short.notes
    assert "cool-down steps: 48,440 printed, 48,441 here" in long.notes


@pytest.mark.parametrize(("scale", "tokens_a_second", "teraflops"), THROUGHPUT)
def test_exact_flops_are_those_that_open_sci_ref_measured_with(
    scale: str, tokens_a_second: float, teraflops: float
) -> None:
    shape = by_name(plan_of("open_sci_ref"))[scale].shape
    assert shape.flops_per_token_exact * tokens_a_second / 1e12 == pytest.approx(teraflops, rel=0.005)


def test_a100_hours_are_those_of_the_measured_throughput() -> None:
    rung = by_name(plan_of("open_sci_ref"))["1.3B"]
    assert rung.device_seconds["a100"] == pytest.approx(rung.trained_tokens / 16_800, rel=0.01)


@pytest.mark.parametrize(
    ("text", "value", "same"),
    [
        ("3.7M", 3_744_832, True),
        ("3.7M", 3_750_001, False),
        ("411,616,256", 411_616_256, True),
        ("411,616,256", 411_616_257, False),
        ("7.8e8", 7.51e8, False),
        ("1.0e10", 1.0286e10, True),
        ("300B", 300_000_411_648, True),
        ("1T", 1.6e12, False),
        ("0.13B", 125_240_512, True),
    ],
)
def test_a_number_agrees_to_the_precision_it_is_printed_with(text: str, value: float, same: bool) -> None:
    assert agrees(text, value) is same


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(RecipeError, match="about four"):
        agrees("about four", 4)


def test_the_plan_is_what_the_trainer_does() -> None:
    plan = plan_ladder(load_ladder("demo"), datasets={"a": 1_000_000, "b": None})
    assert plan.runs == 12
    for rung in plan.rungs:
        run = planned_run(plan.ladder, rung.scale)
        longest = rung.budgets[-1]
        assert longest.tokens == run.tokens(rung.scale.budgets_tokens[-1]) == longest.steps * rung.batch_tokens
        assert longest.flops == 6 * rung.shape.params * longest.tokens
        assert longest.tokens < rung.trained_tokens < 1.3 * longest.tokens
        assert longest.epochs == {"a": pytest.approx(longest.tokens / 1e6)}
    largest = max(rung.budgets[-1].tokens for rung in plan.rungs)
    assert plan.repeated == {"a": pytest.approx(largest / 1e6)}


def test_cosine_pays_for_each_budget_in_full() -> None:
    ladder = load_ladder("demo")
    cosine = ladder.model_copy(update={"procedure": ladder.procedure.model_copy(update={"schedule": "cosine"})})
    for wsd, full in zip(plan_ladder(ladder).rungs, plan_ladder(cosine).rungs, strict=True):
        assert full.trained_tokens == sum(budget.tokens for budget in full.budgets)
        assert full.trained_tokens > 1.4 * wsd.trained_tokens


def test_laptop_takes_about_a_quarter_of_an_hour_a_dataset_on_two_cores() -> None:
    bf16 = load_ladder("laptop").model_copy(update={"precision": "bf16"})
    plan = plan_ladder(bf16)
    assert 8 * 60 < plan.wall_seconds(plan.devices[0]) < 18 * 60


def test_a_rung_of_few_steps_is_warned_of() -> None:
    ladder = load_ladder("demo")
    few = ladder.scales[0].model_copy(update={"budgets_tokens": (4096, 200_000)})
    plan = plan_ladder(ladder.model_copy(update={"scales": (few, *ladder.scales[1:])}))
    assert [any("its smallest budget is 4 steps" in note for note in rung.notes) for rung in plan.rungs] == [True] + [
        False
    ] * 3


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        (
            1e9,
            r"its learning rate is 1e\+09, 2\.86e\+10 times that of rule 'mup' \(0\.035\): expect its runs to diverge",
        ),
        (2.0, "its learning rate is 2"),
        (0.9, None),
    ],
)
def test_a_learning_rate_beyond_all_reason_is_warned_of(rate: float, says: str | None) -> None:
    ladder = load_ladder("demo")
    fast = ladder.scales[0].model_copy(update={"learning_rate": rate})
    notes = plan_ladder(ladder.model_copy(update={"scales": (fast, *ladder.scales[1:])})).rungs[0].notes
    assert bool([note for note in notes if "its learning rate" in note]) is (says is not None)
    assert says is None or re.search(says, " ".join(notes))


def test_other_learning_rates_are_counted_as_the_trainings_that_they_are(packed: TokenizedDataset) -> None:
    ladder, rates = load_ladder("demo"), LearningRates(factors=(1 / 3, 1, 3), on=2, seeds=2)
    plan = plan_ladder(ladder, datasets={"x": packed.tokens}, learning_rates=rates)
    runs = runs_of(
        ladder, {"x": packed}, planned_run(ladder, ladder.scales[0]).procedure, evaluation="", learning_rates=rates
    )
    assert [rung.runs for rung in plan.rungs] == [3 + 4, 1 + 4, 1, 1]
    assert plan.runs == len(runs)
    assert plan.flops > plan_ladder(ladder).flops


def test_prices_and_devices_are_the_users() -> None:
    mine = Device("mine", 1e14, ((1e9, 0.5),), 1.0)
    plan = plan_ladder(load_ladder("dclm"), devices=["h100", mine], dollars_per_hour={"h100": 10, "mine": 2})
    data = plan.to_dict()["devices"]
    assert data["h100"]["dollars"] == pytest.approx(10 * data["h100"]["device_hours"])
    assert data["mine"]["dollars_per_hour"] == 2
    with pytest.raises(RecipeError, match="cpu, a100, h100"):
        plan_ladder(load_ladder("dclm"), devices=["h1000"])


def test_dclms_hours_at_7b_are_the_printed_ones() -> None:
    seconds = by_name(plan_of("dclm"))["7B-1x"].device_seconds["h100"]
    assert seconds / 3600 == pytest.approx(3700, rel=0.01)


def test_a_gpu_gives_small_models_a_smaller_share_of_its_peak() -> None:
    for device in (DEVICES["a100"], DEVICES["h100"]):
        shares = [device.share(int(params)) for params in (1e6, 4e6, 2e7, 1e8, 4e8, 1.7e9)]
        assert shares == sorted(shares)
        assert 0 < shares[0] < 0.1 < 0.3 < shares[-1] < 0.7


def test_core_rates_fall_with_the_size_and_are_the_measured_ones_at_their_points() -> None:
    rungs = plan_of("laptop").rungs
    rates = [cpu_tokens_per_second(rung.shape, precision="bf16") for rung in rungs]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(44_000, rel=0.02)
    assert cpu_tokens_per_second(rungs[-1].shape, precision="fp32") == pytest.approx(2_100, rel=0.02)


def test_memory_is_states_and_activations() -> None:
    shape = by_name(plan_of("dclm"))["7B-1x"].shape
    whole = memory_bytes(shape, tokens_at_once=2048)
    assert whole > 16 * shape.params_stored
    assert memory_bytes(shape, tokens_at_once=2048, shards=64) < whole - 15 * shape.params_stored
    assert memory_bytes(shape, tokens_at_once=8192) > whole + 3 * 2048 * shape.layers * 2 * 10 * shape.width
    recomputed = memory_bytes(shape, tokens_at_once=8192, recompute=True)
    assert recomputed < memory_bytes(shape, tokens_at_once=8192)


def test_a_scale_outside_its_rule_is_told_unless_it_sets_its_rate() -> None:
    ladder = load_ladder("dclm")
    free = ladder.scale("7B-1x").model_copy(update={"learning_rate": None})
    outside = plan_ladder(ladder.model_copy(update={"scales": (free,)})).rungs[0]
    assert any("was found on" in note for note in outside.notes)
    assert not any("was found on" in note for rung in plan_of("dclm").rungs for note in rung.notes)


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("name", ["demo", "open_sci_ref", "dclm", "datadecide"])
def test_the_view_fits_and_holds_every_count(name: str, width: int) -> None:
    plan = plan_ladder(load_ladder(name), datasets={"raw": 10**9, "[bold]x": None})
    text = printed(plan, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "[bold]x" in text
    for rung in plan.rungs:
        assert f"{rung.shape.params:,}" in text
        assert f"{rung.shape.params_stored:,}" in text
        for _, value in rung.agrees:
            assert value in text
    if width == 140:
        assert all(f"{budget.tokens:,}" in text for rung in plan.rungs for budget in rung.budgets)


def test_the_plan_as_json_is_whole() -> None:
    data = json.loads(json.dumps(plan_of("open_sci_ref").to_dict()))
    last = data["scales"][-1]
    assert last["budgets"][-1]["steps"] == 242_204
    assert last["as_published"][0] == {"what": "parameters", "printed": "1.71B"}
    assert data["devices"]["a100"]["device_hours"] > 1e4
