import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import InputError, RecipeError
from curate.proxy_training.tokenizer import (
    END_OF_TEXT,
    encode_documents,
    load_tokenizer,
    pieces_of,
    tokenizer_fingerprint,
    train_tokenizer,
)

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
