"""What muP and CompleteP multiply, and that it makes training independent of the width."""

import math
from dataclasses import replace

import pytest
import torch

from curate.errors import RecipeError
from curate.proxy_training.model import Proxy
from curate.proxy_training.network.coordinate_check import at_width, coordinate_check
from curate.proxy_training.network.parametrisation import Kind, Parametrisation, role
from curate.proxy_training.network.shape import ModelShape

BASE = ModelShape(64, 32, 2, 2, 64, 32, tied=False, bias=True)
WIDE = replace(BASE, width=128, heads=8, kv_heads=8, ffn=256, layers=8)


def rule(kind: Kind, shape: ModelShape) -> Parametrisation:
    return Parametrisation(shape, kind, base_width=BASE.width, base_layers=BASE.layers, base_head_width=BASE.head_width)


def test_every_weight_has_a_role() -> None:
    roles = {name: role(name) for name, _ in Proxy(replace(BASE, qk_norm="full")).named_parameters()}
    assert roles["embedding.weight"] == "embedding"
    assert roles["head.weight"] == "output"
    hidden = {name.removeprefix("blocks.0.") for name, kind in roles.items() if kind == "hidden" and ".0." in name}
    assert hidden == {"qkv.weight", "attention_out.weight", "gate_up.weight", "down.weight"}
    assert roles["blocks.1.query_norm.weight"] == roles["final_norm.weight"] == "norm"
    assert roles["blocks.0.qkv.bias"] == "bias"
    assert {role(name) for name, _ in Proxy(BASE).named_parameters() if name.endswith("_scale")} == {"norm"}


@pytest.mark.parametrize("kind", ["standard", "mup", "completep"])
def test_at_the_base_all_are_the_standard_training(kind: Kind) -> None:
    model, standard = Proxy(BASE, parametrisation=rule(kind, BASE)).initialise(3), Proxy(BASE).initialise(3)
    for (name, ours), theirs in zip(model.named_parameters(), standard.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert rule(kind, BASE).learning_rate_multiplier(name) == 1
        assert rule(kind, BASE).adam_eps_multiplier(name) == 1
    tokens = torch.randint(0, 64, (2, 33))
    assert torch.equal(model(tokens)[0], standard(tokens)[0])


def test_mup_four_times_as_wide_is_table_8_of_tensor_programs_v() -> None:
    mup, standard = rule("mup", WIDE), rule("standard", WIDE)
    hidden, out = "blocks.0.qkv.weight", "blocks.0.down.weight"
    # hidden: variance 1 / fan-in, rate / 4; independent weight decay stays: rate x decay is the base's
    assert mup.initial_std(hidden, (384, 128)) == standard.initial_std(hidden, (384, 128)) == 128**-0.5
    assert mup.learning_rate_multiplier(hidden) == 1 / 4
    assert mup.learning_rate_multiplier(hidden) * mup.weight_decay_multiplier(hidden) == 1
    assert mup.initial_std(out, (128, 256)) == pytest.approx(256**-0.5 / math.sqrt(2 * 8))
    # input, biases and scales: as at the base
    assert (
        mup.initial_std("embedding.weight", (64, 128))
        == 32**-0.5
        != standard.initial_std("embedding.weight", (64, 128))
    )
    for name in ("embedding.weight", "blocks.0.qkv.bias", "blocks.0.query_scale", "final_norm.weight"):
        assert mup.learning_rate_multiplier(name) == 1
        assert mup.weight_decay_multiplier(name) == 0
    # output: initial weights and rate of the base, logits / 4
    assert mup.initial_std("head.weight", (64, 128)) == 32**-0.5
    assert (mup.learning_rate_multiplier("head.weight"), mup.output_multiplier) == (1, 1 / 4)
    # attention 1 / d_head
    wider_heads = rule("mup", replace(BASE, width=128, ffn=256))
    assert wider_heads.attention_scale == 16**0.5 / 64
    assert (mup.residual_multiplier, mup.adam_eps_multiplier(hidden)) == (1, 1 / 4)


def test_completep_four_times_as_deep_is_its_table_1() -> None:
    completep = rule("completep", WIDE)
    hidden, out = "blocks.0.qkv.weight", "blocks.0.down.weight"
    assert completep.residual_multiplier == 1 / 4
    assert completep.learning_rate_multiplier(hidden) == 1 / 4  # of the width alone: alpha is 1
    assert completep.initial_std(out, (128, 256)) == pytest.approx(256**-0.5 / math.sqrt(2 * 2))  # as at the base
    assert completep.adam_eps_multiplier(hidden) == 1 / 16
    assert completep.adam_eps_multiplier("embedding.weight") == 1 / 4


def test_mup_is_flat_over_widths_where_the_standard_grows() -> None:
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, 64, (4, 33), generator=generator)
    base = ModelShape(64, 16, 2, 2, 32, 32)
    widths = [at_width(base, width) for width in (16, 32, 64, 128)]
    assert widths[-1] == replace(base, width=128, heads=16, kv_heads=16, ffn=256)
    checks = {
        kind: coordinate_check(base, widths, text, kind=kind, learning_rate=0.01, steps=4, seeds=(0, 1))
        for kind in ("standard", "mup")
    }
    slopes = checks["mup"].slopes()
    assert {"embedding", "attention 1", "swiglu 0", "stream", "logits", "answer"} <= set(slopes)
    assert all(abs(slope) < 0.25 for name, slope in slopes.items() if name != "logits")
    assert -0.5 < slopes["logits"] < 0  # towards a limit: the random head's part shrinks
    assert checks["standard"].slopes()["stream"] > 0.4 > 0.1 > abs(slopes["stream"])
    # before training the stream is as large at every width, and the logits fall as the root of it
    assert abs(checks["mup"].slopes("before")["stream"]) < 0.1
    assert checks["mup"].slopes("before")["logits"] == pytest.approx(-0.5, abs=0.1)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match="heads of 16"):
        at_width(BASE, 40)
