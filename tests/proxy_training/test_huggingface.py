"""A proxy and its Hugging Face twin are the same model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from curate.errors import InputError, RecipeError
from curate.proxy_training.model import Proxy, rotary_tables
from curate.proxy_training.network.huggingface import export_to_hugging_face, load_from_hugging_face
from curate.proxy_training.network.parametrisation import Parametrisation
from curate.proxy_training.network.shape import ModelShape
from curate.proxy_training.tokens.tokenizer import END_OF_TEXT, encode_documents, load_tokenizer

PLAIN = ModelShape(300, 32, 2, 4, 48, 64)
SHAPES = {
    "qwen3": PLAIN,
    "qwen3, grouped, untied": replace(PLAIN, kv_heads=2, tied=False, rope_theta=500_000.0),
    "hy_v3: open-sci-ref": replace(PLAIN, bias=True, rope_theta=100_000.0),
    "llama": replace(PLAIN, qk_norm="none", tied=False, norm_eps=1e-6),
    "llama, biases": replace(PLAIN, qk_norm="none", bias=True, kv_heads=1),
    "olmo2": replace(PLAIN, qk_norm="full", norm_placement="after", tied=False),
    "olmoe": replace(PLAIN, qk_norm="full", kv_heads=2),
}
WITH_LAYER_NORM = {
    "olmoe: dclm": replace(PLAIN, norm="layer", qk_norm="full", tied=False),
    "qwen3": replace(PLAIN, norm="layer", qk_norm="per_head", kv_heads=2),
    "llama, biases": replace(PLAIN, norm="layer", qk_norm="none", bias=True),
}


def some_model(shape: ModelShape, parametrisation: Parametrisation | None = None) -> Proxy:
    """All weights random, scales and biases too, so that none can be forgotten."""
    model = Proxy(shape, parametrisation=parametrisation).initialise(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return model.eval()


def logits_of_export(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)(tokens).logits


@pytest.mark.parametrize("name", SHAPES)
def test_an_export_has_the_same_logits_and_gives_the_same_weights_back(name: str, tmp_path: Path) -> None:
    model = some_model(SHAPES[name])
    state = torch.get_rng_state()
    export_to_hugging_face(model, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)  # a training that goes on draws what it would have drawn
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == name.split(",")[0].split(":")[0]
    tokens = torch.randint(0, 300, (3, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(logits_of_export(tmp_path, tokens), model.logits(tokens), rtol=0, atol=1e-5)
    state = torch.get_rng_state()
    back = load_from_hugging_face(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert back.shape == model.shape
    ours, theirs = model.state_dict(), back.state_dict()
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)


@pytest.mark.parametrize("name", WITH_LAYER_NORM)
def test_a_model_with_layer_norm_is_exported_as_an_equal_one_with_rms_norm(name: str, tmp_path: Path) -> None:
    model = some_model(WITH_LAYER_NORM[name])
    export_to_hugging_face(model, tmp_path)
    tokens = torch.randint(0, 300, (3, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.logits(tokens)
        torch.testing.assert_close(logits_of_export(tmp_path, tokens), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(load_from_hugging_face(tmp_path).logits(tokens), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["qwen3", "llama, biases", "olmo2", "olmoe"])
@pytest.mark.parametrize("kind", ["mup", "completep"])
def test_multipliers_of_a_parametrisation_become_weights(name: str, kind: str, tmp_path: Path) -> None:
    rule = Parametrisation(SHAPES[name], kind, base_width=8, base_layers=1, base_head_width=4)  # type: ignore[arg-type]
    model = some_model(SHAPES[name], rule)
    export_to_hugging_face(model, tmp_path)
    tokens = torch.randint(0, 300, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.logits(tokens)
        plain = Proxy(model.shape)
        plain.load_state_dict(model.state_dict())
        assert not torch.allclose(plain.logits(tokens), expected, atol=1e-2)
        torch.testing.assert_close(logits_of_export(tmp_path, tokens), expected, rtol=0, atol=1e-5)


def test_a_vocabulary_may_be_padded_and_the_export_generates(world: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(world / "tokenizer.json")
    padded = tokenizer.get_vocab_size() + 44
    model = some_model(replace(PLAIN, vocab_size=padded))
    export_to_hugging_face(model, tmp_path, tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = "The cat sees  a dog.\n\nÜber 12,345 naïve cafés."
    assert [theirs(text)["input_ids"]] == encode_documents(tokenizer, [text])
    assert theirs.decode(theirs(text)["input_ids"]) == text
    assert theirs.eos_token == END_OF_TEXT
    exported = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    assert exported.generation_config.eos_token_id == tokenizer.token_to_id(END_OF_TEXT)
    prompt = theirs(text, return_tensors="pt")["input_ids"]
    written = exported.generate(prompt, max_new_tokens=8, do_sample=False, attention_mask=torch.ones_like(prompt))
    expected = prompt
    while expected.shape[1] < written.shape[1]:
        with torch.no_grad():
            following = model.logits(expected)[:, -1].argmax(-1, keepdim=True)
        expected = torch.cat((expected, following), 1)
    assert torch.equal(written, expected)


@pytest.mark.parametrize("theta", [10_000.0, 100_000.0])
def test_heads_turn_by_the_angles_of_hugging_face_bit_for_bit(theta: float) -> None:
    shape = ModelShape(300, 256, 1, 4, 64, 4096, rope_theta=theta)
    config = LlamaConfig(
        hidden_size=256, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": theta}
    )
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(4096)[None])
    ours = rotary_tables(shape)
    assert torch.equal(ours[0], cos[0, :, :32]) and torch.equal(ours[1], sin[0, :, :32])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"qk_norm": "full", "bias": True}, "biases"),
        ({"norm_placement": "after"}, "per_head"),
        ({"norm": "layer", "norm_placement": "after", "qk_norm": "full"}, "mean"),
    ],
)
def test_a_shape_that_no_class_has_is_refused_in_a_sentence(changes: dict, word: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=word):
        export_to_hugging_face(Proxy(replace(PLAIN, **changes)), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_folders_that_are_no_proxy_are_refused_by_field(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="stack"):
        export_to_hugging_face(Proxy(PLAIN, members=2), tmp_path)
    with pytest.raises(InputError, match=r"config\.json"):
        load_from_hugging_face(tmp_path)
    export_to_hugging_face(some_model(PLAIN), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, word in [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"auto_map": {"AutoModelForCausalLM": "evil.py"}, "model_type": "evil"}, "evil"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"head_dim": 16}, "weights"),
        ({"attention_bias": True}, "bias"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}}, "rope"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(InputError, match=word):
            load_from_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        load_from_hugging_face(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        load_from_hugging_face(tmp_path)
