"""Launch configurations: what a target is told, and what is said of what it cannot do."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from curate.errors import RecipeError
from curate.proxy_training.planning.budgets import find_budget
from curate.proxy_training.planning.ladder_file import Ladder, load_ladder
from curate.proxy_training.planning.launch import TARGETS, Export, export

PUBLISHED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "published" / "dclm" / "training"
CONFIGS = {
    "400M-1x": "411m_1x",
    "1B-1x": "1b_1x_fast",
    "3B-1x": "3b_1x_fast_3e-3_lr_1e-4_zloss",
    "7B-1x": "7b_1x_fast_2e-3_lr_5e-6_zloss",
    "7B-2x": "7b_2x_fast_2e-3_lr_5e-6_zloss",
}
SHIPPED = ("demo", "laptop", "single_gpu", "open_sci_ref", "dclm", "datadecide")


def words(text: str) -> list[str]:
    """The last command of a script, as a shell splits it."""
    return shlex.split(text.rstrip().rsplit("set -euo pipefail\n", 1)[1])


def option(text: str, name: str) -> str:
    found = words(text)
    return found[found.index(name) + 1]


def script(made: Export) -> str:
    return next(text for name, text in made.files.items() if name.endswith(".sh"))


def test_megatron_trains_open_sci_ref_as_it_was_trained() -> None:
    made = export(load_ladder("open_sci_ref"), "1.3B", "megatron")
    text = script(made)
    expected = {
        "--num-layers": "24",
        "--hidden-size": "2048",
        "--ffn-hidden-size": "5440",
        "--num-attention-heads": "32",
        "--seq-length": "4096",
        "--rotary-base": "10000",
        "--global-batch-size": "1008",
        "--micro-batch-size": "4",
        "--train-iters": "72661",
        "--lr": "0.004",
        "--lr-decay-style": "WSD",
        "--lr-wsd-decay-style": "linear",
        "--lr-wsd-decay-iters": "14532",
        "--lr-warmup-iters": "25000",
        "--weight-decay": "0.05",
        "--hidden-dropout": "0.1",
        "--tokenizer-model": "EleutherAI/gpt-neox-20b",
        "--make-vocab-size-divisible-by": "128",
    }
    assert {name: option(text, name) for name in expected} == expected
    assert {"--swiglu", "--qk-layernorm", "--bf16"} <= set(words(text))
    assert not {"--disable-bias-linear", "--untie-embeddings-and-output-weights"} & set(words(text))  # biases, tied
    assert not any("QK-norm" in sentence or "LayerNorm" in sentence for sentence in made.differences)


def test_megatron_is_told_a_cosine_and_says_what_it_leaves_out_of_dclm() -> None:
    made = export(load_ladder("dclm"), "400M-1x", "megatron")
    assert option(script(made), "--lr-decay-style") == "cosine"
    assert option(script(made), "--min-lr") == "3e-05"
    said = " ".join(made.differences)
    for lost in ("QK-norm over the whole projection", "LayerNorm without a bias", "z-loss 0.0001"):
        assert lost in said


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published configurations are not here")
@pytest.mark.parametrize("scale", CONFIGS)
def test_dclms_own_configuration_comes_out(scale: str) -> None:
    made = export(load_ladder("dclm"), scale, "dclm")
    ours = json.loads(made.files[f"training/configs/dclm-{scale}.json"])
    theirs = json.loads((PUBLISHED / "configs" / f"{CONFIGS[scale]}.json").read_text())
    model = json.loads((PUBLISHED / "open_lm_configs" / Path(theirs["model"]).name).read_text())
    for name in ("model", "fsdp_flags"):  # a path; and how their hardware was filled
        ours.pop(name), theirs.pop(name)
    assert ours == theirs
    assert json.loads(made.files[f"training/open_lm_configs/dclm-{scale}.json"]) == {"ffn_type": "swiglu_torch"} | model


def test_open_lm_gets_dclms_training() -> None:
    made = export(load_ladder("dclm"), "1B-1x", "open_lm")
    text = script(made)
    expected = {
        "--global-batch-size": "256",
        "--accum-freq": "1",
        "--warmup": "5000",
        "--lr-cooldown-end": "3e-05",
        "--z-loss-coefficient": "0.0001",
        "--model-norm": "gain_only_lp_layer_norm",
        "--lr-scheduler": "cosine",
    }
    assert {name: option(text, name) for name in expected} == expected
    assert 5 * int(option(text, "--train-num-samples")) == pytest.approx(28_795_904_000, rel=1e-5)


def test_open_lm_cools_down_over_the_last_of_five_epochs_and_says_what_it_cannot_build() -> None:
    made = export(load_ladder("open_sci_ref"), "1.7B", "open_lm")
    assert option(script(made), "--lr-scheduler") == "const-cooldown"
    assert (option(script(made), "--epochs"), option(script(made), "--epochs-cooldown")) == ("5", "1")
    said = " ".join(made.differences)
    for lost in ("FFN of 8,192", "biases", "QK-norm per head", "dropout 0.1", "branches at other budgets"):
        assert lost in said


def test_slurm_gets_an_array_over_the_runs_that_is_requeued_by_our_code() -> None:
    made = export(load_ladder("open_sci_ref"), "0.13B", "slurm", runs=6, study="my study.yaml", work="/shared/w")
    text = made.files["open_sci_ref-0.13B.sbatch"]
    for line in ("--array=1-6", "--nodes=63", "--ntasks-per-node=4", "--requeue", "--signal=USR2@180"):
        assert f"#SBATCH {line}" in text
    assert "curate train 'my study.yaml' --work=/shared/w --scale=0.13B" in text
    assert 'if [ "$code" -eq 75 ]' in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).returncode == 0


def test_torchrun_meets_on_a_named_node_only_where_there_are_several() -> None:
    assert "--standalone" in words(script(export(load_ladder("single_gpu"), "150M", "torchrun")))
    many = words(script(export(load_ladder("dclm"), "7B-1x", "torchrun")))
    assert {"--nnodes=32", "--nproc-per-node=8", "--rdzv-endpoint=$HEAD:29500"} <= set(many)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SHIPPED)
def test_every_rung_of_every_ladder_has_a_script_that_a_shell_reads(name: str, target: str) -> None:
    ladder = load_ladder(name)
    for scale in (ladder.scales[0], ladder.scales[-1]):
        made = export(ladder, scale.name, target)
        scripts = [text for file, text in made.files.items() if not file.endswith(".json")]
        assert len(scripts) == 1
        assert all(line.isprintable() for line in scripts[0].splitlines())
        assert not any("None" in text for text in made.files.values())
        shlex.split(scripts[0], comments=True)


def change(ladder: Ladder, scale: str, **fields: object) -> Ladder:
    found = ladder.scale(scale)
    launch = found.launch.model_copy(update=fields)
    return ladder.model_copy(update={"scales": (found.model_copy(update={"launch": launch}),)})


def test_a_batch_that_does_not_divide_over_the_devices_is_said() -> None:
    uneven = change(load_ladder("open_sci_ref"), "1.3B-50B", gpus=252)
    made = export(uneven, "1.3B-50B", "megatron")
    assert any("1,024 sequences is no multiple of 252 devices x 4" in sentence for sentence in made.differences)
    sizes = export(change(load_ladder("dclm"), "7B-1x", gpus=20), "7B-1x", "slurm")
    assert any("20 GPUs do not fill nodes of 8" in sentence for sentence in sizes.differences)


def test_a_hostile_name_of_a_ladder_runs_nothing_and_leaves_the_folder_for_none() -> None:
    ladder = load_ladder("dclm").model_copy(update={"name": "../../x\n$(touch /tmp/pwned); rm -rf ~"})
    for target in TARGETS:
        for file, text in export(ladder, "400M-1x", target).files.items():
            assert ".." not in file
            assert "$(" not in text and "rm -rf ~" not in text


def test_recomputed_activations_reach_each_target() -> None:
    ladder = change(load_ladder("dclm"), "7B-1x", checkpoint_activations=True)
    assert "--recompute-activations" in words(script(export(ladder, "7B-1x", "megatron")))
    assert "--grad-checkpointing" in words(script(export(ladder, "7B-1x", "open_lm")))
    config = export(ladder, "7B-1x", "dclm").files["training/configs/dclm-7B-1x.json"]
    assert json.loads(config)["grad_checkpointing"] is True


def test_what_is_not_there_is_named() -> None:
    ladder = load_ladder("open_sci_ref")
    with pytest.raises(RecipeError, match="take torchrun, slurm, megatron"):
        export(ladder, "1.3B", "nanotron")
    with pytest.raises(RecipeError, match=r"take 0\.13B-50B"):
        export(ladder, "3B", "slurm")
    with pytest.raises(RecipeError, match="take 300,000,411,648, 1,000,004,124,672"):
        export(ladder, "1.7B", "slurm", budget_tokens=5)
    with pytest.raises(RecipeError, match="'many' is no number of tokens"):
        export(ladder, "1.7B", "slurm", budget_tokens="many")


@pytest.mark.parametrize("named", [300_000_411_648, "300,000,411,648", "300_000_000_000", "300B", "300.0B", "3e11"])
def test_a_budget_is_found_by_what_it_rounds_to(named: int | str) -> None:
    made = export(load_ladder("open_sci_ref"), "1.7B", "megatron", budget_tokens=named)
    assert option(script(made), "--train-iters") == "72661"


@pytest.mark.parametrize(("named", "found"), [("80000", 79_872), ("79.9k", 79_872), ("1e5", None), ("90k", None)])
def test_a_budget_is_no_other_number_and_never_one_of_two(named: str, found: int | None) -> None:
    assert find_budget(named, {79_872: 79_872}) == found
    assert find_budget("80k", {79_872: 79_872, 80_100: 80_100}) is None


@pytest.mark.parametrize("target", ["megatron", "open_lm", "dclm"])
def test_each_target_has_the_precision_of_the_ladder(target: str) -> None:
    ladder = load_ladder("dclm")
    for precision, low in (("bf16", True), ("auto", True), ("fp32", False)):
        made = export(ladder.model_copy(update={"precision": precision}), "400M-1x", target)
        text = "\n".join(made.files.values())
        assert any(word in text for word in ("--bf16", "amp_bfloat16", "--fsdp-amp")) is low
        assert ("--precision fp32" in text) is (target != "megatron" and not low)
        assert any(sentence.startswith("float32") for sentence in made.differences) is (target == "dclm" and not low)


def test_our_own_command_names_the_ladder_that_was_launched() -> None:
    ladder = load_ladder("demo")
    for target in ("torchrun", "slurm"):
        text = "".join(export(ladder, "0.5M", target, ladder_given="my ladder.yaml").files.values())
        assert "curate train study.yaml --ladder='my ladder.yaml' --work=work" in " ".join(
            text.replace("\\\n", " ").split()
        )
        assert "--ladder" not in "".join(export(ladder, "0.5M", target).files.values())
