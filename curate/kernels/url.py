"""URLs against block lists: hosts and their parents, pages and what lies below them, words; one pass over each URL.

A list is a table of 64-bit hashes, 11 bytes an entry whatever its length; at five million entries, one host in 10^12
is taken for a listed one by chance. Words are runs of ASCII letters and digits, case folded, `%XX` decoded; the
strict ones are found by an Aho-Corasick automaton (1975) in the URL with all else taken out. Scheme, user and port of a
URL count for nothing. Time is linear in the bytes: of a host, the last 253 bytes are looked at (RFC 1035).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from curate.kernels.compile import inlined, kernel, part
from curate.kernels.hashing import hash_lower_ascii, mix
from curate.kernels.memory import address_of, load_byte
from curate.kernels.strings import string_array, string_buffers

LONGEST_HOST = 253
"""RFC 1035, 2.3.4, without the trailing dot."""

DOMAIN, PAGE, NOTHING, WRONG = 0, 1, 2, 3
"""What a line of a list is."""

HARD, SOFT = 1, 2

_CLASSES = 36
_SEED = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)
_HALF = np.uint64(32)
_FILL = 0.7


@inlined
def _lower(byte):  # type: ignore[no-untyped-def]
    return byte | np.uint8(32) if 65 <= byte <= 90 else byte


@inlined
def _hex(byte):  # type: ignore[no-untyped-def]
    """The value of a hexadecimal digit, or -1."""
    if 48 <= byte <= 57:
        return np.int64(byte) - 48
    lower = np.int64(byte) | 32
    return lower - 87 if 97 <= lower <= 102 else np.int64(-1)


@inlined
def _class(byte):  # type: ignore[no-untyped-def]
    """0 to 35 for 0 to 9 and a to z of either case, -1 for all else."""
    if 48 <= byte <= 57:
        return np.int64(byte) - 48
    lower = np.int64(byte) | 32
    return lower - 87 if 97 <= lower <= 122 else np.int64(-1)


@inlined
def _is_in(slots, hashed):  # type: ignore[no-untyped-def]
    """Whether a hash is in a table (0 marks a free slot)."""
    hashed |= np.uint64(hashed == 0)
    count = np.uint64(slots.shape[0])
    slot = np.int64(((hashed >> _HALF) * count) >> _HALF)
    while slots[slot] != 0 and slots[slot] != hashed:
        slot = slot + 1 if slot + 1 < slots.shape[0] else 0
    return slots[slot] == hashed


@kernel
def _fill(slots, hashes):  # type: ignore[no-untyped-def]
    """Put hashes into a table; returns how many different ones there were."""
    count = np.uint64(slots.shape[0])
    different = 0
    for i in range(hashes.shape[0]):
        hashed = hashes[i] | np.uint64(hashes[i] == 0)
        slot = np.int64(((hashed >> _HALF) * count) >> _HALF)
        while slots[slot] != 0 and slots[slot] != hashed:
            slot = slot + 1 if slot + 1 < slots.shape[0] else 0
        different += slots[slot] == 0
        slots[slot] = hashed
    return different


@part
def _places(start, end):  # type: ignore[no-untyped-def]
    """Of a URL: where what follows the scheme begins, host from and to, where the path begins and ends.

    The path ends before a `#`, blanks at the ends are left out.
    """
    while start < end and load_byte(start) <= 32:
        start += 1
    while end > start and load_byte(end - 1) <= 32:
        end -= 1
    at = start
    while at < end and (_class(load_byte(at)) >= 0 or load_byte(at) in (43, 45, 46)):
        at += 1
    if at > start and at + 3 <= end and load_byte(at) == 58 and load_byte(at + 1) == 47 and load_byte(at + 2) == 47:
        start = at + 3
    elif start + 2 <= end and load_byte(start) == 47 and load_byte(start + 1) == 47:
        start += 2
    host = start
    path = start
    while path < end and load_byte(path) not in (47, 63, 35, 92):
        if load_byte(path) == 64:
            host = path + 1
        path += 1
    host_end = path
    if host < path and load_byte(host) == 91:  # [IPv6]
        at = host
        while at < path and load_byte(at) != 93:
            at += 1
        host_end = min(at + 1, path)
    else:
        at = host
        while at < path and load_byte(at) != 58:
            at += 1
        host_end = at
    while host_end > host and load_byte(host_end - 1) == 46:
        host_end -= 1
    stop = path
    while stop < end and load_byte(stop) != 35:
        stop += 1
    return start, host, host_end, path, stop


@part
def _host_is_in(slots, host, end, limit):  # type: ignore[no-untyped-def]
    """Whether a host or a domain that it belongs to is listed; an address of digits must be listed itself."""
    last = end
    while last > host and load_byte(last - 1) != 46 and end - last < LONGEST_HOST:
        last -= 1
    if last < end and 48 <= load_byte(last) <= 57:
        return end - host <= LONGEST_HOST and _is_in(slots, hash_lower_ascii(host, end - host, limit))
    at = max(host, end - LONGEST_HOST)
    if at > host:  # begins within a label
        while at < end and load_byte(at - 1) != 46:
            at += 1
    while at < end:
        if _is_in(slots, hash_lower_ascii(at, end - at, limit)):
            return True
        while at < end and load_byte(at) != 46:
            at += 1
        at += 1
    return False


@inlined
def _take(state, byte):  # type: ignore[no-untyped-def]
    return (state ^ np.uint64(byte)) * _PRIME


@part
def _hash_of_host(host, end):  # type: ignore[no-untyped-def]
    """Where the hash of a page begins: its host in lower case, `www.` left out."""
    if end - host > 4 and load_byte(host + 3) == 46:
        w = True
        for i in range(3):
            w &= _lower(load_byte(host + i)) == 119
        if w:
            host += 4
    state = _SEED
    for at in range(host, end):
        state = _take(state, _lower(load_byte(at)))
    return state


@part
def _page_is_in(slots, host, host_end, path, stop):  # type: ignore[no-untyped-def]
    """Whether a page is listed, or one that it lies below: `/` or `?` comes next."""
    state = _hash_of_host(host, host_end)
    for at in range(path, stop):
        byte = load_byte(at)
        if at > path and (byte == 47 or byte == 63) and _is_in(slots, mix(state)):
            return True
        state = _take(state, byte)
    return stop > path and load_byte(stop - 1) != 47 and _is_in(slots, mix(state))


@inlined
def _is_address(start, end):  # type: ignore[no-untyped-def]
    """Whether a word has the form of an IP address: digits and three full stops, or hexadecimal with two colons; after
    a `%`, the name of a network card (`fe80::1%lo0`).
    """
    stops = colons = letters = 0
    at = start
    while at < end and load_byte(at) != 37:
        byte = load_byte(at)
        if byte == 46:
            stops += 1
        elif byte == 58:
            colons += 1
        elif _hex(byte) < 0:
            return False
        else:
            letters += _hex(byte) > 9
        at += 1
    return colons >= 2 or (stops == 3 and colons == 0 and letters == 0)


@part
def _classify(start, end, limit):  # type: ignore[no-untyped-def]
    """What the line [start, end) of a list is, and its hash.

    Spaces and comments (`#` or `;` at the line's beginning, `#` after a space) are left out. In `address name`, as
    hosts files have it, the name counts; any other second word is wrong, as it would be lost. `*.` and `.` before a
    name, and a `/` after it, say nothing.
    """
    nothing = np.uint64(0)
    while start < end and load_byte(start) <= 32:
        start += 1
    if start == end or load_byte(start) == 35 or load_byte(start) == 59:
        return NOTHING, nothing
    stop = start
    while stop < end and load_byte(stop) > 32:
        stop += 1
    second = stop
    while second < end and load_byte(second) <= 32:
        second += 1
    if second < end and load_byte(second) != 35:
        if not _is_address(start, stop):
            return WRONG, nothing
        start = second
        stop = start
        while stop < end and load_byte(stop) > 32:
            stop += 1
        third = stop
        while third < end and load_byte(third) <= 32:
            third += 1
        if third < end and load_byte(third) != 35:
            return WRONG, nothing
    _, host, host_end, path, path_end = _places(start, stop)
    if host_end - host > 2 and load_byte(host) == 42 and load_byte(host + 1) == 46:
        host += 2
    if host < host_end and load_byte(host) == 46:
        host += 1
    if host == host_end or host_end - host > LONGEST_HOST:
        return WRONG, nothing
    bracket = load_byte(host) == 91
    for at in range(host, host_end):
        byte = load_byte(at)
        if not (_class(byte) >= 0 or byte in (45, 46, 95) or byte >= 128 or (bracket and byte in (58, 91, 93))):
            return WRONG, nothing
    while path_end > path and load_byte(path_end - 1) == 47:
        path_end -= 1
    if path_end == path:
        return DOMAIN, hash_lower_ascii(host, host_end - host, limit)
    state = _hash_of_host(host, host_end)
    for at in range(path, path_end):
        state = _take(state, load_byte(at))
    return PAGE, mix(state)


@kernel
def _read_lines(data, size, hashes, kinds):  # type: ignore[no-untyped-def]
    """What the lines of a block are; returns how many lines there were."""
    base = address_of(data, 0)
    limit = base + data.shape[0]
    line = 0
    start = 0
    while start < size:
        end = start
        while end < size and data[end] != 10:
            end += 1
        kinds[line], hashes[line] = _classify(base + start, base + end, limit)
        line += 1
        start = end + 1
    return line


def read_lines(block: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Of each line of a list: DOMAIN, PAGE, NOTHING (blank, comment) or WRONG (uint8), and its hash (uint64)."""
    data = np.frombuffer(block, dtype=np.uint8)
    lines = block.count(b"\n") + 1
    hashes, kinds = np.empty(lines, dtype=np.uint64), np.empty(lines, dtype=np.uint8)
    found = _read_lines(data, len(data), hashes, kinds) if len(data) else 0
    return kinds[:found], hashes[:found]


def hash_table(hashes: np.ndarray) -> tuple[np.ndarray, int]:
    """A table of hashes, uint64[slots], seven tenths full, and how many different ones it holds."""
    slots = np.zeros(max(16, int(len(hashes) / _FILL) + 1), dtype=np.uint64)
    return slots, int(_fill(slots, hashes))


@kernel
def _spread(goto, fail, order, final):  # type: ignore[no-untyped-def]
    """Make a trie, its states in breadth-first order, an automaton: each state has a next one for each character."""
    for i in range(order.shape[0]):
        state = order[i]
        final[state] |= final[fail[state]]
        for character in range(goto.shape[1]):
            follows = goto[state, character]
            back = goto[fail[state], character] if state != 0 else 0
            if follows > 0:
                fail[follows] = back
            else:
                goto[state, character] = back


def _automaton(words: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """int32[states, 36]: what comes after each state; bool[states]: whether a word ends there."""
    trie: list[dict[int, int]] = [{}]
    depth, ends = [0], [False]
    for word in words:
        state = 0
        for byte in word:
            character = byte - 48 if byte < 58 else byte - 87
            if character not in trie[state]:
                trie[state][character] = len(trie)
                trie.append({})
                depth.append(depth[state] + 1)
                ends.append(False)
            state = trie[state][character]
        ends[state] = True
    goto = np.zeros((len(trie), _CLASSES), dtype=np.int32)
    for state, following in enumerate(trie):
        goto[state, list(following)] = list(following.values())
    final, fail = np.array(ends), np.zeros(len(trie), dtype=np.int32)
    _spread(goto, fail, np.argsort(depth, kind="stable"), final)
    return goto, final


def _hash_of_word(word: bytes) -> int:
    state = int(_SEED)
    for byte in word:
        state = ((state ^ byte) * int(_PRIME)) % 2**64
    return state


@dataclass(frozen=True, slots=True, eq=False)
class UrlWords:
    """Hard, soft and strict words, ready to be looked for."""

    slots: np.ndarray = field(repr=False)
    """uint64[a power of two]: hashes of hard and soft words, 0 where there is none"""
    kinds: np.ndarray = field(repr=False)
    """uint8, of each slot: HARD, SOFT or both"""
    goto: np.ndarray = field(repr=False)
    """int32[states, 36]: the automaton of the strict words"""
    final: np.ndarray = field(repr=False)
    """bool[states]"""

    @classmethod
    def of(cls, *, hard: Sequence[bytes] = (), soft: Sequence[bytes] = (), strict: Sequence[bytes] = ()) -> UrlWords:
        """From words of a to z and 0 to 9, none of them empty."""
        kinds: dict[int, int] = {}
        for kind, words in ((HARD, hard), (SOFT, soft)):
            for word in words:
                hashed = _hash_of_word(word)
                kinds[hashed] = kinds.get(hashed, 0) | kind
        size = 16
        while size < 4 * len(kinds):
            size *= 2
        slots, kind_of = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint8)
        for hashed, kind in kinds.items():
            slot = (hashed >> 32) & (size - 1)
            while slots[slot]:
                slot = (slot + 1) & (size - 1)
            slots[slot], kind_of[slot] = hashed, kind
        return cls(slots, kind_of, *_automaton(strict))


@kernel
def _measure(data, offsets, domains, pages, words, automaton, counts, hosts, host_offsets):  # type: ignore[no-untyped-def]
    limit = address_of(data, data.shape[0])
    used = np.int64(0)
    slots, kinds = words
    goto, final = automaton
    mask = slots.shape[0] - 1
    seen = np.zeros(slots.shape[0], np.int64)
    for i in range(offsets.shape[0] - 1):
        url, end = address_of(data, offsets[i]), address_of(data, offsets[i + 1])
        start, host, host_end, path, stop = _places(url, end)
        for at in range(host, host_end):
            hosts[used] = _lower(load_byte(at))
            used += 1
        host_offsets[i + 1] = used
        if domains.shape[0] > 0 and host < host_end:
            counts[0, i] = _host_is_in(domains, host, host_end, limit)
        if pages.shape[0] > 0 and host < host_end:
            counts[1, i] = _page_is_in(pages, host, host_end, path, stop)
        state = _SEED
        strict = np.int64(0)
        length = np.int64(0)
        n_hard = n_soft = n_strict = 0
        at = start
        while at <= end:
            character = np.int64(-1)
            if at < end:
                byte = load_byte(at)
                if byte == 37 and at + 2 < end and _hex(load_byte(at + 1)) >= 0 and _hex(load_byte(at + 2)) >= 0:
                    byte = np.uint8(_hex(load_byte(at + 1)) * 16 + _hex(load_byte(at + 2)))
                    at += 2
                character = _class(byte)
            at += 1
            if character >= 0:
                strict = np.int64(goto[strict, character])
                n_strict += final[strict]
                state = _take(state, character + (48 if character < 10 else 87))
                length += 1
            elif length > 0:
                slot = np.int64(state >> _HALF) & mask
                while slots[slot] != 0 and slots[slot] != state:
                    slot = (slot + 1) & mask
                if slots[slot] == state and seen[slot] != i + 1:
                    seen[slot] = i + 1
                    n_hard += kinds[slot] & HARD
                    n_soft += (kinds[slot] & SOFT) >> 1
                state = _SEED
                length = np.int64(0)
        counts[2, i], counts[3, i], counts[4, i] = n_hard, n_soft, n_strict


COUNTS = ("domain", "page", "hard_words", "soft_words", "strict_words")
"""int64 columns: 1 if the host or a parent is listed, 1 if the page is, different hard words, different soft words,
places where a strict word ends"""


def measure_urls(
    urls: pa.Array, *, domains: np.ndarray, pages: np.ndarray, words: UrlWords
) -> tuple[dict[str, np.ndarray], pa.StringArray]:
    """COUNTS of each URL, and its host in lower case; tables of length 0 are not looked at. A null is an empty URL."""
    data, offsets = string_buffers(urls)
    counts = np.zeros((len(COUNTS), len(urls)), dtype=np.int64)
    hosts = np.empty(int(offsets[-1] - offsets[0]), dtype=np.uint8)
    host_offsets = np.zeros(len(offsets), dtype=np.int64)
    both, automaton = (words.slots, words.kinds), (words.goto, words.final)
    _measure(data, offsets, domains, pages, both, automaton, counts, hosts, host_offsets)
    found = string_array(hosts[: host_offsets[-1]], host_offsets, pa.string())
    return dict(zip(COUNTS, counts, strict=True)), found
