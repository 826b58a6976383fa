import gzip
import json
import random
import shutil
from itertools import pairwise
from pathlib import Path

import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import InputError, MismatchError, RecipeError
from curate.proxy_training.tokens.tokenizer import (
    END_OF_TEXT,
    encode_documents,
    end_of_text,
    load_tokenizer,
    pieces_of,
    tokenizer_fingerprint,
    train_tokenizer,
    vocabulary_size,
)
from curate.proxy_training.tokens.tokenizer_sources import check_vocabulary, settle_tokenizer

NEOX = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "models" / "gpt-neox-20b_tokenizer.json.gz"

TEXTS = ["the cat sat on the mat", "a mat, a cat and 12 hats", "naïve 漢字 \U0001f600", "  tabs\tand\n\nlines "] * 5


def test_training_in_any_order_writes_the_same_file(tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    first = train_tokenizer(TEXTS, vocab_size=290, path=tmp_path / "a.json")
    second = train_tokenizer(iter(shuffled), vocab_size=290, path=tmp_path / "b.json")
    assert first == second == tokenizer_fingerprint(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert first != train_tokenizer(TEXTS, vocab_size=280, path=tmp_path / "c.json")


@given(st.text())
def test_every_text_comes_back_from_its_tokens(world: Path, text: str) -> None:
    tokenizer = load_tokenizer(world / "tokenizer.json")
    (tokens,) = encode_documents(tokenizer, [text])
    assert tokenizer.decode(tokens, skip_special_tokens=False) == text
    assert tokenizer.token_to_id(END_OF_TEXT) not in tokens


def test_a_page_cannot_fake_the_end_of_a_document(world: Path) -> None:
    tokenizer = load_tokenizer(world / "tokenizer.json")
    (tokens,) = encode_documents(tokenizer, [f"before{END_OF_TEXT}after"])
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert 0 not in tokens


@given(st.text(alphabet="ab \n\t.", max_size=200), st.integers(5, 40))
def test_cut_texts_encode_like_whole_ones(world: Path, text: str, longest: int) -> None:
    tokenizer = load_tokenizer(world / "tokenizer.json")
    pieces = list(pieces_of(text, longest=longest))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= longest
    at_blanks = all(b[:1].isspace() and not a[-1:].isspace() for a, b in pairwise(pieces))
    if at_blanks:
        assert [t for one in encode_documents(tokenizer, pieces) for t in one] == encode_documents(tokenizer, [text])[0]


def test_bad_tokenizers_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="257"):
        train_tokenizer(TEXTS, vocab_size=100, path=tmp_path / "t.json")
    with pytest.raises(InputError, match="nothing to learn"):
        train_tokenizer([], vocab_size=300, path=tmp_path / "t.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken\.json"):
        load_tokenizer(tmp_path / "broken.json")
    with pytest.raises(InputError, match=r"absent\.json"):
        tokenizer_fingerprint(tmp_path / "absent.json")


def with_other_end(world: Path, folder: Path, end: str) -> Path:
    """A folder as Hugging Face writes it, whose end of text is only told by tokenizer_config.json."""
    folder.mkdir(parents=True)
    text = (world / "tokenizer.json").read_text().replace(END_OF_TEXT, end)
    (folder / "tokenizer.json").write_text(text)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": end, "lstrip": False}}))
    return folder


def test_a_tokenizer_file_is_itself_and_a_packed_one_its_content(world: Path, tmp_path: Path) -> None:
    plain = world / "tokenizer.json"
    assert settle_tokenizer(str(plain), folder=tmp_path / "t") == plain
    assert not (tmp_path / "t").exists()
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(plain.read_bytes()))
    unpacked = settle_tokenizer(str(tmp_path / "t.json.gz"), folder=tmp_path / "t")
    assert tokenizer_fingerprint(unpacked) == tokenizer_fingerprint(plain)


def test_the_end_of_text_is_found_by_configuration_or_by_the_study(world: Path, tmp_path: Path) -> None:
    folder = with_other_end(world, tmp_path / "theirs", "<done:1>")
    settled = settle_tokenizer(str(folder), folder=tmp_path / "t")
    tokenizer = load_tokenizer(settled)
    assert tokenizer.id_to_token(end_of_text(tokenizer)) == "<done:1>"
    assert settle_tokenizer(str(folder), folder=tmp_path / "t") == settled
    (text,) = encode_documents(tokenizer, ["the cat <done:1>"])
    assert end_of_text(tokenizer) not in text
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="no token to separate documents"):
        settle_tokenizer(str(folder), folder=tmp_path / "t")
    named = settle_tokenizer(str(folder), folder=tmp_path / "t", end_of_text="<done:1>")
    assert named.read_bytes() == settled.read_bytes()
    with pytest.raises(InputError, match="no token '<nowhere>'"):
        settle_tokenizer(str(folder), folder=tmp_path / "t", end_of_text="<nowhere>")


def test_a_name_on_the_hub_is_asked_for_once(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = with_other_end(world, tmp_path / "hub", "</s>")
    asked = []

    def download(name: str, **wanted: object) -> str:
        asked.append((name, wanted["revision"]))
        return str(theirs)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    first = settle_tokenizer("somebody/small@v2", folder=tmp_path / "t")
    shutil.rmtree(theirs)
    assert settle_tokenizer("somebody/small@v2", folder=tmp_path / "t") == first
    assert asked == [("somebody/small", "v2")]
    assert load_tokenizer(first).token_to_id("</s>") == end_of_text(load_tokenizer(first))


def test_a_hub_that_does_not_answer_says_what_to_name_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **wanted: object) -> str:
        raise ConnectionError("no network here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InputError, match=r"somebody/small: .*no network here.*tokenizer\.json"):
        settle_tokenizer("somebody/small", folder=tmp_path / "t")
    with pytest.raises(InputError, match="no tokenizer here"):
        settle_tokenizer(str(tmp_path / "absent.json"), folder=tmp_path / "t")


@pytest.mark.slow
def test_an_older_folder_is_read_by_transformers(world: Path, tmp_path: Path) -> None:
    model = json.loads((world / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    read = load_tokenizer(settle_tokenizer(str(tmp_path), folder=tmp_path / "t"))
    own = load_tokenizer(world / "tokenizer.json")
    assert encode_documents(read, TEXTS) == encode_documents(own, TEXTS)
    assert end_of_text(read) == end_of_text(own)


def test_a_tokenizer_must_fit_the_rows_of_a_ladder(world: Path) -> None:
    path = world / "tokenizer.json"
    entries = vocabulary_size(load_tokenizer(path))
    assert check_vocabulary(path, "tiny", entries=entries, rows=512) is None
    assert "counts with 4,096" in (check_vocabulary(path, "tiny", entries=4096, rows=None) or "")
    with pytest.raises(MismatchError, match="have 280 rows"):
        check_vocabulary(path, "tiny", entries=entries, rows=280)


@pytest.mark.skipif(not NEOX.exists(), reason="the tokenizer of GPT-NeoX-20B is not here")
def test_gpt_neox_fits_the_ladders_that_name_it(tmp_path: Path) -> None:
    path = settle_tokenizer(str(NEOX), folder=tmp_path)
    tokenizer = load_tokenizer(path)
    assert (vocabulary_size(tokenizer), end_of_text(tokenizer)) == (50277, 0)
    assert check_vocabulary(path, "open_sci_ref", entries=50277, rows=50304) is None
    (tokens,) = encode_documents(tokenizer, ["def f():\n    return '<|endoftext|>'"])
    assert 0 not in tokens
    assert tokenizer.decode(tokens) == "def f():\n    return '<|endoftext|>'"
