import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curate.errors import InputError
from curate.proxy_training.evaluate import HeldOutSet, evaluation_fingerprint, load_heldout, score, windows_at_once
from curate.proxy_training.model import Proxy
from curate.proxy_training.network.shape import ModelShape
from curate.proxy_training.tokens.tokenizer import load_tokenizer


def load(world: Path, *files: Path, **sizes: int) -> HeldOutSet:
    wanted = {"sequence_length": 32, "bytes_per_set": 4000, "bytes_per_document": 400} | sizes
    return load_heldout(
        "x", list(files) or [world / "heldout.parquet"], tokenizer=load_tokenizer(world / "tokenizer.json"), **wanted
    )


def test_a_uniform_model_needs_log2_of_the_vocabulary_a_token(world: Path) -> None:
    heldout = load(world)
    model = Proxy(ModelShape(300, 16, 1, 2, 32, 32))
    for weight in model.parameters():
        weight.data.zero_()
    tokens, size = heldout.targets.sum(), heldout.document_bytes.sum()
    assert score(model.token_nats, heldout).bits_per_byte == pytest.approx(math.log2(300) * tokens / size, rel=1e-6)


def test_a_uniform_model_over_bytes_scores_eight_bits(world: Path, tmp_path: Path) -> None:
    """A tokenizer whose merges never apply leaves one token a byte, so a uniform choice of 256 costs 8 bits each."""
    pq.write_table(pa.table({"text": ["\x00\x01\x02漢" * 50, "\x03\x04" * 90]}), tmp_path / "bytes.parquet")
    heldout = load(world, tmp_path / "bytes.parquet")
    assert heldout.targets.sum() == heldout.document_bytes.sum()

    def uniform(windows: torch.Tensor) -> torch.Tensor:
        return torch.full((len(windows), 32), math.log(256))

    assert score(uniform, heldout).bits_per_byte == pytest.approx(8.0, rel=1e-6)


def test_the_batch_does_not_change_the_result(world: Path) -> None:
    heldout = load(world)
    model = Proxy(ModelShape(300, 32, 2, 2, 64, 32)).initialise(0)
    values = [score(model.token_nats, heldout, batch_windows=count).bits_per_byte for count in (1, 3, 16, 1000)]
    assert max(values) - min(values) < 1e-6


def test_memory_is_bounded_in_vocabulary_and_window(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heldout = load(world)
    model = Proxy(ModelShape(300, 32, 2, 2, 64, 32)).initialise(0)
    (whole,) = heldout.measure(model)
    sizes = []
    nats_of = model._nats

    def counted(x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        sizes.append(targets.numel() * 300)
        return nats_of(x, targets)

    monkeypatch.setattr(model, "_nats", counted)
    monkeypatch.setattr("curate.proxy_training.model.LOGITS_AT_ONCE", 300 * 7)
    (cut,) = heldout.measure(model)
    assert max(sizes) == 300 * 7
    assert cut.value == pytest.approx(whole.value, rel=1e-6)
    assert [windows_at_once(length, device="cpu") for length in (32, 256, 2048, 8192)] == [16, 16, 2, 1]
    assert windows_at_once(2048, device="cuda") == 8


def test_a_set_measures_a_model_whatever_it_was_trained_in(world: Path) -> None:
    heldout = load(world)
    model = Proxy(ModelShape(300, 32, 2, 2, 64, 32)).initialise(0)
    expected = score(model.token_nats, heldout)
    model.bf16 = True
    (row,) = heldout.measure(model)
    assert (row.metric, row.value, row.error) == ("bits_per_byte/x", expected.bits_per_byte, expected.error)
    assert (row.items, row.lower_is_better, row.chance) == (len(heldout.document_bytes), True, None)
    assert row.item_values is not None
    assert row.item_weights is not None
    assert row.item_values.sum() / row.item_weights.sum() == pytest.approx(row.value)
    assert model.bf16


def test_every_token_of_text_is_a_target_once_and_end_of_text_never(world: Path) -> None:
    heldout = load(world)
    tokenizer = load_tokenizer(world / "tokenizer.json")
    texts = pq.read_table(world / "heldout.parquet")["text"].to_pylist()
    for document, size in enumerate(heldout.document_bytes):
        rows = np.flatnonzero(heldout.documents == document)
        assert heldout.windows[rows[0], 0] == 0
        targets = np.concatenate([heldout.windows[row, 1 : 1 + heldout.targets[row]] for row in rows])
        text = tokenizer.decode(targets.tolist())
        assert len(text.encode()) == size
        assert any(whole.startswith(text) for whole in texts)
        assert 0 not in targets
        for before, after in pairwise(rows):
            assert heldout.windows[after, 0] == heldout.windows[before, -1]


def test_sets_are_cut_by_bytes_and_do_not_depend_on_the_order_of_files(world: Path, tmp_path: Path) -> None:
    table = pq.read_table(world / "heldout.parquet", columns=["text"])
    pq.write_table(table.slice(0, 20), tmp_path / "a.parquet")
    pq.write_table(pa.concat_tables([table.slice(20), table.slice(0, 5)]), tmp_path / "b.parquet")  # five repeat
    whole, cut = load(world), load(world, tmp_path / "b.parquet", tmp_path / "a.parquet")
    assert whole.fingerprint() == cut.fingerprint()
    assert whole.document_bytes.sum() <= 4000
    assert max(whole.document_bytes) <= 400
    assert evaluation_fingerprint({"x": whole}) != evaluation_fingerprint({"y": whole})
    assert load(world, bytes_per_set=2000).fingerprint() != whole.fingerprint()


def test_excerpts_end_on_whole_characters(world: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["漢" * 10, "", "漢" * 10]}), tmp_path / "han.parquet")
    assert load(world, tmp_path / "han.parquet", bytes_per_document=10).document_bytes.tolist() == [9]


def test_the_error_is_that_of_repeated_samples() -> None:
    """Over many samples of documents the spread of the ratio is the error that one sample states."""
    chance = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(400):
        sizes = chance.integers(5, 60, size=50)
        nats = sizes * chance.normal(1.0, 0.2, size=50)
        rows = np.zeros((50, 2), dtype=np.int64)
        heldout = HeldOutSet("x", rows, np.ones(50, dtype=np.int64), np.arange(50), sizes)
        per_row = iter(np.split(nats, 50))
        one = score(lambda w, it=per_row: torch.tensor(np.stack([next(it) for _ in range(len(w))])), heldout)
        values.append(one.bits_per_byte)
        errors.append(one.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.1)


def test_a_held_out_set_without_text_is_refused_by_name(world: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [""]}), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match=r"'x' holds no text in .*empty\.parquet"):
        load(world, tmp_path / "empty.parquet")
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet: no column 'text'"):
        load(world, tmp_path / "other.parquet")
