"""Encoders give each text the vector that it would have alone, and refuse folders that are none."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from curate.errors import InputError
from curate.models.encoder import Encoder

WORDS = "the river runs under old bridge and a cat sits on warm stone near quiet harbour".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights."""
    place = tmp_path_factory.mktemp("encoder")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(place)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(names), max_position_embeddings=24, **shape)
    BertModel(config).save_pretrained(place, safe_serialization=True)
    return place


def _alone(folder: Path, text: str, pooling: str) -> np.ndarray:
    """The vector of one text, without padding."""
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=True, max_length=24)
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0]
    pooled = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1], "max": hidden.amax(0)}[pooling]
    return (pooled / pooled.norm()).numpy()


def _with_pooling(folder: Path, place: Path, name: str) -> Path:
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds]
    (place / "modules.json").write_text(json.dumps(modules))
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, name: True}))
    return place


POOLINGS = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken", "max": "max_tokens"}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_text_has_the_same_vector_among_others_as_alone(folder: Path, tmp_path: Path, pooling: str) -> None:
    encoder = Encoder(_with_pooling(folder, tmp_path, f"pooling_mode_{POOLINGS[pooling]}"))
    texts = ["the river runs", "a cat sits on warm stone near the old bridge", "cat", "harbour " * 99]
    found = encoder.encode(pa.array(texts))
    expected = [_alone(folder, text, pooling) for text in texts]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_text_without_words_has_no_vector(folder: Path) -> None:
    found = Encoder(folder).encode(pa.array(["", None, " \n", "the cat"]))
    assert not found[:3].any() and np.linalg.norm(found[3].astype(float)) == pytest.approx(1, abs=1e-3)


def test_folders_that_are_no_encoders_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: an encoder is a folder"):
        Encoder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has none"):
        Encoder(tmp_path)
    broken = _with_pooling(folder, tmp_path, "pooling_mode_weightedmean_tokens")
    with pytest.raises(InputError, match="one pooling of"):
        Encoder(broken)
    (broken / "model.safetensors").write_bytes(b"damaged")
    (broken / "modules.json").unlink()
    with pytest.raises(InputError, match="no encoder that transformers can load"):
        Encoder(broken)
