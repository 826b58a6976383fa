"""Encoders give each text the vector that it would have alone, and refuse folders that are none."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from curate.errors import InputError
from curate.models.encoder import Encoder


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
def test_a_text_has_the_same_vector_among_others_as_alone(small_encoder: Path, tmp_path: Path, pooling: str) -> None:
    encoder = Encoder(_with_pooling(small_encoder, tmp_path, f"pooling_mode_{POOLINGS[pooling]}"))
    texts = ["the river runs", "a cat sits on warm stone near the old bridge", "cat", "harbour " * 99]
    found = encoder.encode(pa.array(texts))
    expected = [_alone(small_encoder, text, pooling) for text in texts]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_text_without_words_has_no_vector(small_encoder: Path) -> None:
    found = Encoder(small_encoder).encode(pa.array(["", None, " \n", "the cat", " " * 9_999 + "the cat"]))
    assert not found[:3].any() and np.linalg.norm(found[3].astype(float)) == pytest.approx(1, abs=1e-3)
    assert (found[3] == found[4]).all()


def test_a_text_that_the_vocabulary_does_not_know_has_no_vector(small_encoder: Path) -> None:
    found = Encoder(small_encoder).encode(pa.array(["ዓለም ሰላም", "ዓለም ሰላም the", "ዓለም the cat", "ዓለም cat"]))
    assert found.any(axis=1).tolist() == [False, False, True, True]


def test_folders_that_are_no_encoders_are_refused_by_name(small_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: an encoder is a folder"):
        Encoder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has none"):
        Encoder(tmp_path)
    broken = _with_pooling(small_encoder, tmp_path, "pooling_mode_weightedmean_tokens")
    with pytest.raises(InputError, match="one pooling of"):
        Encoder(broken)
    (broken / "model.safetensors").write_bytes(b"damaged")
    (broken / "modules.json").unlink()
    with pytest.raises(InputError, match="no encoder that transformers can load"):
        Encoder(broken)
