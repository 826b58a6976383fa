"""Words of the index against the rules in plain Python, against UAX #29 as `regex` has it, and against spaCy's."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.errors import InputError
from curate.kernels.hashing import hash_strings
from curate.kernels.text_index import TextIndex
from curate.kernels.word_exceptions import LONGEST, exceptions
from curate.kernels.words import (
    LETTER,
    LETTER_OR_NUMBER,
    NOT_ASCII,
    NOT_PUNCTUATION,
    ONLY_PUNCTUATION,
    SENTENCE_END,
)

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text"


# The rules of word_rules.py in plain Python, one character at a time.

QUOTES = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉⟦⟧"
OUTER = QUOTES + "…:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪"
CURRENCY = "$£€¥฿₽﷼" + "".join(map(chr, range(0x20A0, 0x20C0)))
UNITS = "m g t T G M K % km dm cm mm ha nm yd in ft kg mg lb oz Pa mb MB kb KB gb GB tb TB kmh mph hPa".split()
PAIRS = {":)", "):", ":(", "(:", ";)", "(;", "''"}
EXCEPTIONS = {"".join(pieces): pieces for pieces in exceptions()}
HOST = regex.compile(
    r"(?P<name>[^\s.:/?#]+(?:\.[^\s.:/?#]+)+)(?P<port>:[0-9]{2,5}(?![0-9]))?(?P<path>[/?#].*)?", regex.DOTALL
)
SCHEME = regex.compile(r"[A-Za-z0-9_+.\-\x80-\U0010FFFF]{2,}://")
ICON = regex.compile(r"\p{So}")
PICTOGRAPH = regex.compile(r"\p{Extended_Pictographic}")
FLAG = regex.compile(r"\p{Word_Break=Regional_Indicator}")
EXTENSION = regex.compile(r"[\p{Word_Break=Extend}\p{Word_Break=Format}\p{Word_Break=ZWJ}]")
A_LETTER = regex.compile(r"\p{L}")
UPPER = regex.compile(r"\p{Lu}")
JOINED_LETTER = regex.compile(r"\p{L}(?<=[\p{Word_Break=ALetter}\p{Word_Break=Hebrew_Letter}])")
KATAKANA = regex.compile(r"\p{Word_Break=Katakana}")
NUMBER = regex.compile(r"[\p{L}\p{N}]")
DECIMAL = regex.compile(r"\p{Nd}")


def is_digit(character: str) -> bool:
    return character in "0123456789"


def is_letter(character: str) -> bool:
    return bool(A_LETTER.match(character))


def is_upper(character: str) -> bool:
    return bool(UPPER.match(character))


def is_lower(character: str) -> bool:
    return is_letter(character) and not is_upper(character)


def is_extension(character: str) -> bool:
    return bool(EXTENSION.match(character))


def extended(text: str, end: int) -> int:
    while end < len(text) and text[end] > "\x7f" and is_extension(text[end]):
        end += 1
    return end


def prefix(text: str) -> int:
    """Characters that are taken off at the start."""
    if text[0] == ".":
        dots = len(text) - len(text.lstrip("."))
        return dots if dots > 1 else 0
    if text[0] == "+":
        return 0 if len(text) > 1 and is_digit(text[1]) else 1
    for money in ("US$", "C$", "A$"):
        if text.startswith(money):
            return len(money)
    return extended(text, 1) if text[0] in OUTER + CURRENCY + "%=§–—" else 0


def suffix(text: str) -> int:
    """Characters that are taken off at the end."""
    last = text[-1]
    if last == ".":
        dots = len(text) - len(text.rstrip("."))
        if dots > 1:
            return dots
        if len(text) == 1:
            return 0
        before = text[-2]
        if is_digit(before) or is_lower(before) or before in OUTER + "%²-+|":
            return 1
        return int(is_upper(before) and len(text) > 2 and is_upper(text[-3]))
    if last in "sS" and len(text) > 1 and text[-2] in "'’":
        return 2
    for size in (3, 2, 1):
        if text[-size:] in UNITS and len(text) > size and is_digit(text[-size - 1]):
            return size
    base = len(text) - 1
    if last > "\x7f":
        nearest = len(text)
        while nearest > 0 and len(text[nearest - 1 :].encode(errors="surrogatepass")) <= 64:
            nearest -= 1
        while base > nearest and is_extension(text[base]):
            base -= 1
    mark = text[base]
    after_digit = base > 0 and is_digit(text[base - 1])
    if mark in OUTER + "–—" or (after_digit and mark in CURRENCY):
        return len(text) - base
    return int(last == "+" and after_digit)


def is_host(text: str) -> bool:
    found = HOST.fullmatch(text)
    if not found:
        return False
    labels = found["name"].split(".")
    for label in labels:
        inside = [c for c in label if c.isascii() and not c.isalnum()]
        if any(c not in "-_" for c in inside) or label[0] in "-_" or label[-1] in "-_":
            return False
        if len(label.encode(errors="surrogatepass")) > 64:
            return False
    top = labels[-1]
    if all(is_lower(c) and (c.isascii() is False or "a" <= c <= "z") for c in top):
        return len(top.encode()) >= 2
    return len(labels) == 4 and all(len(label) <= 3 and all(map(is_digit, label)) for label in labels)


def is_url(text: str) -> bool:
    scheme = SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    at = rest.rfind("@")
    return is_host(rest) or (at > 0 and is_host(rest[at + 1 :]))


def splits(text: str, i: int, before: str) -> int:
    """Characters of the mark at i that cuts the inside of a chunk."""
    c = text[i]
    if c == "…":
        return 1
    dots = len(text[i:]) - len(text[i:].lstrip("."))
    if dots > 1:
        return dots
    if i == 0 or i + 1 >= len(text):
        return 0
    after = text[i + 1]
    joinable = is_letter(before) or is_digit(before)
    if c == ".":
        return int((is_lower(before) or before in QUOTES) and (is_upper(after) or after in QUOTES))
    if c == ",":
        return int(is_letter(before) and is_letter(after))
    if c in "+-*^" and is_digit(before) and (is_digit(after) or after == "-"):
        return 1
    if c in ":<>=/":
        return int(joinable and is_letter(after))
    if c in "-~–—" and joinable:
        most = {"-": 3, "—": 2}.get(c, 1)
        size = 1
        while size < most and text[i + size : i + size + 1] == c:
            size += 1
        following = text[i + size : i + size + 1]
        return size if following and is_letter(following) else 0
    return 0


def stands_alone(character: str) -> bool:
    return is_letter(character) and not JOINED_LETTER.match(character)


def inside(text: str) -> list[str]:
    if is_url(text):
        return [text]
    found, word, i, before = [], 0, 0, "\0"
    while i < len(text):
        c = text[i]
        if i > 0 and is_extension(c):
            i += 1
            continue
        mark = 0 if is_letter(c) or DECIMAL.match(c) else splits(text, i, before)
        if mark:
            stop = extended(text, i + mark)
            found += [text[word:i], text[i:stop]]
            word = i = stop
        else:
            alone = (stands_alone(c) or stands_alone(before)) and not (KATAKANA.match(c) and KATAKANA.match(before))
            marks = not NUMBER.match(c) and not NUMBER.match(before) and max(c, before) >= "\u2e80"
            if i > word and (alone or marks):
                found.append(text[word:i])
                word = i
            i += 1
        before = c
    return [piece for piece in [*found, text[word:]] if piece]


def exception(text: str) -> list[str] | None:
    return EXCEPTIONS.get(text) if len(text) <= LONGEST else None


def piece_words(text: str) -> list[str]:
    """Words of a chunk without spaces and icons."""
    front: list[str] = []
    back: list[str] = []
    while text:
        whole = exception(text)
        if whole:
            return [*front, *whole, *back]
        before = prefix(text)
        if before and exception(text[before:]):
            return [*front, text[:before], *EXCEPTIONS[text[before:]], *back]
        after = suffix(text[before:]) if text[before:] else 0
        if after:
            back.insert(0, text[-after:])
            if exception(text[:-after]):
                return [*front, *EXCEPTIONS[text[:-after]], *back]
        if not before and not after:
            return [*front, *inside(text), *back]
        if before:
            front.append(text[:before])
        text = text[before : len(text) - after]
    return front + back


def icon_end(text: str, i: int) -> int:
    flag = bool(FLAG.match(text[i]))
    i = extended(text, i + 1)
    while i < len(text):
        joined = PICTOGRAPH.match(text[i]) and text[i] > "\x7f" and text[i - 1] == "\u200d"
        if not joined and not (flag and FLAG.match(text[i])):
            break
        flag = False
        i = extended(text, i + 1)
    return i


def chunk_words(text: str) -> list[str]:
    found: list[str] = []
    begin = i = 0
    while i < len(text):
        if not ICON.match(text[i]):
            i += 1
            continue
        stop = icon_end(text, i)
        found += [*piece_words(text[begin:i]), text[i:stop]]
        begin = i = stop
    found += piece_words(text[begin:])
    words: list[str] = []
    joined = False
    for word in found:
        joined = bool(words) and not joined and words[-1] + word in PAIRS
        if joined:
            words[-1] += word
        else:
            words.append(word)
    return words


def reference_words(text: str) -> list[str]:
    """Words of a text: of its chunks between whitespace, each on its own."""
    return [word for chunk in text.split() for word in chunk_words(chunk)]


def words_of(index: TextIndex, i: int) -> list[bytes]:
    row = index.rows[i]
    raw = index.data[index.offsets[row] : index.offsets[row + 1]].tobytes()
    spans = slice(index.words.first[row], index.words.first[row + 1])
    return [raw[a:b] for a, b in zip(index.words.start[spans].tolist(), index.words.end[spans].tolist(), strict=True)]


def kernel_words(text: str) -> list[str]:
    return [word.decode() for word in words_of(TextIndex.of(pa.array([text], type=pa.string())), 0)]


def replace_invalid(raw: bytes) -> tuple[str, list[int]]:
    """How the kernels read bytes: a byte that begins no whole sequence is U+FFFD. With the offset of each character."""
    characters, offsets, i = [], [], 0
    while i < len(raw):
        lead = raw[i]
        size = 1 if lead < 0xC0 or lead > 0xF7 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        tail = raw[i + 1 : i + size]
        point = 0xFFFD if lead >= 0x80 else lead
        if size > 1 and len(tail) == size - 1 and all(byte & 0xC0 == 0x80 for byte in tail):
            point = lead & (0x7F >> size)
            for byte in tail:
                point = point << 6 | byte & 0x3F
            point = point if point < 0x110000 else 0xFFFD
        else:
            size = 1
        characters.append(chr(point))
        offsets.append(i)
        i += size
    return "".join(characters), [*offsets, len(raw)]


ODD = st.sampled_from(
    list("aZ5_.:,;'\"-#!? \t\n\r\v\f\x1c\x85\xa0’…·éאב״アー漢ひภา🇫🇷👩Ⓜ٣٬𝕬𐐀१한ᄒ‿")
    + list("\u0301\u0308\u00ad\u200b\u200d\u2060\u3000\u2028\u202f\u1680\ufeff")
)
SPELLINGS = st.sampled_from(
    [
        *"don't don’t it's They’ll Mr. e.g. J. U.S. 10:30 5km 10am http://a.org/b-c?d=e x@y.com w/o ... --".split(),
        *"1990–2000 “ ” : ; ) ( ' ’ . , - — / = $ % @ _ * 3.5 a.B été Ü. l’été rock’n’roll mother’s foo(bar)".split(),
        *"mother-in-law US$5 +1 a—b ,b. well,Mr. x's's 日本 カナ アー 漢 👍🏽 🇫🇷🇩🇪 ° ©2020 <b> can't've y'all".split(),
        *("\u0301", "\u00ad", "\u00a0", "👩\u200d👩\u200d👧"),
    ]
)
TEXTS = st.one_of(
    st.lists(ODD, max_size=40).map("".join),
    st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=60),
    st.text("ab' .", max_size=200),
    st.lists(SPELLINGS | st.just(" "), max_size=30).map("".join),
    st.text("aB1é.,:'’“”-–— \u00a0(", max_size=150),
    st.text("aB1é.'’‘“”…„«»-–— ", max_size=150),
)


@given(TEXTS)
@example("'a' can't l'été 'tis rock 'n' roll a''b a'")
@example("\u3000 \u0308a")
@example("a\u200d👩 .\u200dⓂ א'א א' א\"א א\"")
@example("x" * 63 + "." + "y" * 64 + "1,2.5 3." + " " * 60 + "é")
@settings(max_examples=400, deadline=None)
def test_words_follow_the_rules_on_any_text(text: str) -> None:
    assert kernel_words(text) == reference_words(text)


@given(st.binary(max_size=120) | TEXTS.map(lambda text: text.encode()[1:-1]))
@settings(max_examples=300, deadline=None)
def test_bytes_that_are_no_text_are_read_as_replacement_characters(raw: bytes) -> None:
    text, offsets = replace_invalid(raw)
    index = TextIndex.of(
        pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.int32([0, len(raw)])), pa.py_buffer(raw)])
    )
    position, expected = 0, []
    for word in reference_words(text):
        position = text.index(word, position)
        expected.append(raw[offsets[position] : offsets[position + len(word)]])
        position += len(word)
    assert words_of(index, 0) == expected
    assert index.n_chars[0] == sum(byte & 0xC0 != 0x80 for byte in raw)


MARKS = "…’‘“”„‚«»–—-'\".,:;!?()%$_/@&·×"
BESIDE = [
    ("there", "enough"),
    ("", "so"),
    ("so", ""),
    ("1990", "2000"),
    ("é", "й"),
    ("it", "s"),
    ("a ", " b"),
    ("Q.", "A"),
]
PADDINGS = ["ab " * 24, " " * 70, "é " * 24]


@pytest.mark.parametrize("padding", PADDINGS, ids=["words", "spaces", "letters beyond ASCII"])
def test_a_mark_cuts_alike_wherever_it_stands_in_the_64_bytes_that_are_read_at_once(padding: str) -> None:
    """Its first byte stands at 56 to 70."""
    texts = []
    for mark in [*MARKS, "...", "--", "…”", "”—", "’…", ".”"]:
        for before, after in BESIDE:
            for at in range(56, 71):
                room = at - len(before.encode()) - 1
                filled = padding.encode()[: max(room, 0)].decode(errors="ignore").rstrip()
                space = " " * (room + 1 - len(filled.encode()))
                texts.append(f"{filled}{space}{before}{mark}{after} and")
                assert len(texts[-1][: texts[-1].rindex(mark)].encode()) <= at
    index = TextIndex.of(pa.array(texts))
    for i, text in enumerate(texts):
        assert [word.decode() for word in words_of(index, i)] == reference_words(text), text


@given(TEXTS)
@example("there…enough of Retail‘s “so”…")
@settings(max_examples=100, deadline=None)
def test_a_text_has_the_same_words_behind_any_number_of_spaces(text: str) -> None:
    index = TextIndex.of(pa.array([" " * shift + text for shift in range(65)], type=pa.string()))
    expected = words_of(index, 0)
    assert all(words_of(index, shift) == expected for shift in range(65))


def test_the_example_of_the_annex_is_cut_as_printed_there_but_for_the_contraction() -> None:
    text = "The quick (“brown”) fox can’t jump 32.3 feet, right?"
    expected = [
        "The",
        "quick",
        "(",
        "“",
        "brown",
        "”",
        ")",
        "fox",
        "ca",
        "n’t",
        "jump",
        "32.3",
        "feet",
        ",",
        "right",
        "?",
    ]
    assert kernel_words(text) == expected


def test_marks_are_joined_and_cut_as_the_filters_peers_have_them() -> None:
    text = "At 10:30 a.m., Mr. Smith's well-known site (www.example.org/a-b?c=d) said: it isn't 5km ... or 1990–2000!"
    expected = ["At", "10:30", "a.m.", ",", "Mr.", "Smith", "'s", "well", "-", "known", "site", "("]
    expected += [
        "www.example.org/a-b?c=d",
        ")",
        "said",
        ":",
        "it",
        "is",
        "n't",
        "5",
        "km",
        "...",
        "or",
        "1990–2000",
        "!",
    ]
    assert kernel_words(text) == expected


def test_all_code_points_have_the_class_and_flags_of_the_regex_module() -> None:
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    text = "\n".join(map(chr, points))
    index = TextIndex.of(pa.array([text], type=pa.large_string()))
    letters = set(regex.findall(r"\p{L}", text))
    alphanumeric = set(regex.findall(r"[\p{L}\p{N}]", text))
    found = {}
    for word, flags in zip(words_of(index, 0), index.words.flags, strict=True):
        found[word.decode()] = flags
    blank = {chr(point) for point in points if chr(point).isspace()}
    assert set(found) == {chr(point) for point in points} - blank
    for word, flags in found.items():
        assert bool(flags & LETTER) == (word in letters), hex(ord(word))
        assert bool(flags & LETTER_OR_NUMBER) == (word in alphanumeric), hex(ord(word))
        assert bool(flags & NOT_ASCII) == (word > "\x7f"), hex(ord(word))


def test_pure_symbols_are_those_of_datatrove() -> None:
    punctuation = pytest.importorskip("datatrove.utils.text").PUNCTUATION_SET
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000 and not chr(point).isspace()]
    index = TextIndex.of(pa.array(["\n".join(points)], type=pa.large_string()))
    assert [bool(flag & NOT_PUNCTUATION) for flag in index.words.flags] == [
        point not in punctuation for point in points
    ]


@pytest.mark.parametrize("name", ["books", "qa_stackexchange", "wiki_fr", "multi_osguide", "code_python", "instruct"])
def test_real_texts_are_cut_by_the_rules(name: str) -> None:
    texts = [text[:2000] for text in real_texts(name)[::7][:60]]
    index = TextIndex.of(pa.array(texts))
    for i, text in enumerate(texts):
        assert [word.decode() for word in words_of(index, i)] == reference_words(text)


def real_texts(name: str) -> list[str]:
    path = DATA / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    return pq.read_table(path, columns=["text"])["text"].to_pylist()


@pytest.mark.parametrize(
    ("name", "share"),
    [("books", 0.999), ("qa_stackexchange", 0.999), ("wiki_en", 0.999), ("factbook", 0.999), ("dialogue_self", 0.995)],
)
def test_words_of_real_english_are_spacys(name: str, share: float) -> None:
    """Dialogues spell "dont" and "thats": we leave these alone."""
    spacy = pytest.importorskip("spacy")
    texts = [text[:2000] for text in real_texts(name)[::11][:60]]
    index = TextIndex.of(pa.array(texts))
    tokenizer = spacy.blank("en").tokenizer
    equal = total = 0
    for i, text in enumerate(texts):
        theirs = {(token.idx, token.text) for token in tokenizer(text) if not token.is_space}
        mine, at = set(), 0
        for word in words_of(index, i):
            at = text.index(word.decode(), at)
            mine.add((at, word.decode()))
            at += len(word.decode())
        equal += len(mine & theirs)
        total += len(theirs)
    assert equal >= share * total


def test_a_mark_that_ends_sentences_and_words_of_marks_are_flagged() -> None:
    words = ["Yes", ".", "...", "?!", "!", "。", "—", "$", "a.", "'s", "“"]
    texts = pa.array([" ".join(words)])
    starts = np.cumsum([0, *(len(word.encode()) + 1 for word in words)])[:-1]
    ends = starts + [len(word.encode()) for word in words]
    index = TextIndex.of(texts, words=(np.array([0, len(words)]), starts, ends))
    flags = dict(zip(words, index.words.flags.tolist(), strict=True))
    assert {word for word in words if flags[word] & SENTENCE_END} == {".", "!", "。"}
    assert {word for word in words if flags[word] & ONLY_PUNCTUATION} == {".", "...", "?!", "!", "。", "—", "“"}


def test_words_from_outside_are_described_like_our_own_and_checked() -> None:
    texts = pa.array(["Été – it's 3.5 km.", "", "…so (what)?", "漢字 🇫🇷"])
    own = TextIndex.of(texts)
    given = TextIndex.of(texts, words=(own.words.first, own.words.start, own.words.end))
    for left, right in zip(own.words, given.words, strict=True):
        assert left.tobytes() == right.tobytes()
    with pytest.raises(InputError, match="Word 1 of text 0 has the bytes 1 to 3"):
        TextIndex.of(pa.array(["abcd"]), words=(np.array([0, 2]), np.array([0, 1]), np.array([2, 3])))
    with pytest.raises(InputError, match="need 2 places"):
        TextIndex.of(pa.array(["abcd"]), words=(np.array([0]), np.array([]), np.array([])))


@pytest.mark.parametrize(
    "piece",
    ["(", "a.", "\u0301", "'", "👩\u200d", ".", "a-", "@", "x/", "((\u0301", "’s", "Mr.", "1990–", "é’", "- "],
)
def test_a_text_twice_as_long_takes_about_twice_as_long_whatever_it_holds(piece: str) -> None:
    took = []
    for size in (100_000, 200_000):
        texts = pa.array([piece * size])
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            TextIndex.of(texts)
            best = min(best, time.process_time() - start)
        took.append(best)
    assert took[1] <= 3 * took[0] + 0.05


@given(st.lists(st.none() | TEXTS, max_size=12), st.integers(0, 5), st.integers(0, 12), st.booleans())
@settings(max_examples=100, deadline=None)
def test_slices_nulls_and_large_strings_index_as_their_texts_do(
    texts: list[str | None], start: int, stop: int, large: bool
) -> None:
    array = pa.array(texts, type=pa.large_string() if large else pa.string())[start:stop]
    index = TextIndex.of(array)
    assert len(index) == len(array)
    for i, text in enumerate(array.to_pylist()):
        assert [word.decode() for word in words_of(index, i)] == kernel_words(text or "")
        assert index.n_chars[i] == len(text or "")
        assert index.n_bytes[i] == len((text or "").encode())
        assert index.n_words[i] == len(words_of(index, i))


@given(st.lists(TEXTS, min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_a_words_hash_is_that_of_its_bytes(texts: list[str]) -> None:
    index = TextIndex.of(pa.array(texts))
    words = [word.decode() for i in range(len(index)) for word in words_of(index, i)]
    assert index.words.hash.tolist() == hash_strings(pa.array(words, type=pa.string())).tolist()


def test_nothing_is_read_past_the_end_of_a_buffer() -> None:
    """Each text ends where the bytes of its buffer end; whatever lies behind must not change the result."""
    page = np.frombuffer(b"z9'z" * 64, dtype=np.uint8).copy()
    for size in range(1, 140):
        text = ("don't 3.14 stop: " * 10)[:size].encode()
        results = []
        for filler in (b"z", b" ", b"\xcc"):
            page[:] = filler[0]
            page[: len(text)] = np.frombuffer(text, dtype=np.uint8)
            buffers = [None, pa.py_buffer(np.int32([0, size])), pa.py_buffer(page[:size])]
            index = TextIndex.of(pa.Array.from_buffers(pa.string(), 1, buffers))
            results.append((words_of(index, 0), index.words.hash.tolist()))
        assert results[0] == results[1] == results[2]


def test_a_selection_shares_the_words_and_keeps_its_order() -> None:
    index = TextIndex.of(pa.array(["one two", "three", "four, five six", ""]))
    odd = index.select(np.array([False, True, False, True]))
    back = index.select(np.array([2, 0]))
    assert odd.n_words.tolist() == [1, 0]
    assert back.n_words.tolist() == [4, 2]
    assert back.select(np.array([False, True])).n_chars.tolist() == [7]
    assert back.words.hash is index.words.hash
    with pytest.raises(ValueError, match="3 values for 4 texts"):
        index.select(np.array([True, False, True]))


def test_other_arrays_are_refused_with_a_sentence() -> None:
    with pytest.raises(InputError, match="not int64; cast the column first"):
        TextIndex.of(pa.array([1, 2]))
    with pytest.raises(InputError, match="combine_chunks"):
        TextIndex.of(pa.chunked_array([["a"], ["b"]]))


def test_two_runs_give_the_same_index() -> None:
    texts = pa.array([f"Line {i}: it's é {i * 3.5}, \u200d👩 'n' roll. " * (i % 7) for i in range(300)])
    first, second = TextIndex.of(texts), TextIndex.of(texts)
    for left, right in zip(first.words, second.words, strict=True):
        assert left.tobytes() == right.tobytes()
