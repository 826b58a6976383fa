"""Where one chunk of text between spaces is cut into words: UAX #29, and marks as spaCy's English rules have them.

The annex says which letters and digits belong together. What it leaves to be tailored is a mark (any character that is
no letter or digit) between them: `10:30`, `e.g.`, `don't`, `...`. There the rules are those of the tokenizer on which
datatrove's filters are defined (spaCy 3.8, lang/punctuation.py): marks are taken off at both ends, what is left is
glued across marks except at a few (`well-known`, `said,then`), a URL stays whole, and word_exceptions.py holds what
English spells otherwise. Chinese, Japanese, Thai and other scripts without spaces are never glued. A word is a bit in
the mask of starts and one in the mask of ends (the byte after its last). Time is linear in the chunk.
"""

from __future__ import annotations

import numpy as np

from curate.kernels import characters as character
from curate.kernels.characters import CLASSES, properties_of
from curate.kernels.compile import inlined, part, pasted
from curate.kernels.memory import ALL, ONE, code_point, load_byte, load_word, store_word
from curate.kernels.trimming import last_code_point
from curate.kernels.word_exceptions import find_exception

_A_LETTER = CLASSES["ALetter"]
_HEBREW = CLASSES["Hebrew_Letter"]
_KATAKANA = CLASSES["Katakana"]
_EXTEND = CLASSES["Extend"]
_ZWJ = CLASSES["ZWJ"]
_FLAG = CLASSES["Regional_Indicator"]
_WIDE_SCRIPTS = 0x2E80
"""Marks from here on (Chinese, Japanese, full width) are words of their own"""

_MOST_EXTENSIONS = 64
"""Bytes of combining marks that a mark at the end of a chunk may carry: looking further, again and again, takes long"""

_COMMA, _PLUS, _HYPHEN, _STOP, _SLASH, _COLON = (ord(mark) for mark in ",+-./:")
_EN_DASH, _EM_DASH, _ELLIPSIS, _APOSTROPHE = (ord(mark) for mark in "–—…’")


@inlined
def is_digit(byte):  # type: ignore[no-untyped-def]
    """0 to 9."""
    return 48 <= byte <= 57


@inlined
def _is_dash(point):  # type: ignore[no-untyped-def]
    return point in (_EN_DASH, _EM_DASH)


@inlined
def _is_lower(properties):  # type: ignore[no-untyped-def]
    """A letter that is not upper case: scripts without case count as both, a full stop after them is one."""
    return properties & (character.LETTER | character.UPPER_CASE) == character.LETTER


@part
def set_bit(masks, at):  # type: ignore[no-untyped-def]
    """Set the bit of a place in a mask."""
    place = masks + 8 * (at >> 6)
    store_word(place, load_word(place) | (ONE << np.uint64(at & 63)))


@part
def _clear_bits(masks, start, end):  # type: ignore[no-untyped-def]
    """Clear the bits [start, end), start < end."""
    for k in range(start >> 6, ((end - 1) >> 6) + 1):
        keep = np.uint64(0)
        if k == start >> 6:
            keep |= ~(ALL << np.uint64(start & 63))
        if k == (end - 1) >> 6:
            keep |= ~(ALL >> np.uint64(63 - ((end - 1) & 63)))
        store_word(masks + 8 * k, load_word(masks + 8 * k) & keep)


@part
def _add(text, start, end, masks):  # type: ignore[no-untyped-def]
    """A word at addresses [start, end)."""
    set_bit(masks[0], start - text)
    set_bit(masks[1], end - text)


@inlined
def _dots(address, end):  # type: ignore[no-untyped-def]
    """How many full stops stand in a row from an address on."""
    position = address
    while position < end and load_byte(position) == 46:
        position += 1
    return position - address


@part
def _prefix(start, end, characters):  # type: ignore[no-untyped-def]
    """Bytes of the mark that is taken off at the start of a chunk, or 0. Combining marks go with it."""
    point, size = code_point(start, end)
    properties = properties_of(characters, point)
    if point == _STOP:
        size = _dots(start, end)
        return size if size > 1 else 0
    if point == _PLUS:
        return 0 if start + 1 < end and is_digit(load_byte(start + 1)) else 1
    if point == 65 or point == 67 or point == 85:  # A$, C$, US$
        position = start + 1 + (point == 85 and start + 1 < end and load_byte(start + 1) == 83)
        if (point == 85) == (position == start + 2) and position < end and load_byte(position) == 36:
            return position + 1 - start
        return 0
    taken = properties & (character.OUTER | character.CURRENCY) != 0
    if not (taken or point == 37 or point == 61 or point == 0xA7 or _is_dash(point)):
        return 0
    return _after_extensions(start + size, end, characters) - start


@part
def _after_extensions(address, end, characters):  # type: ignore[no-untyped-def]
    """Skip what extends the character before (WB4)."""
    while address < end and load_byte(address) > 127:
        point, size = code_point(address, end)
        if not _EXTEND <= properties_of(characters, point) & character.CLASS <= _ZWJ:
            break
        address += size
    return address


def _spelled(units: str) -> np.ndarray:
    """Each unit's bytes as one number, the last one lowest."""
    return np.array([int.from_bytes(unit.encode(), "big") for unit in units.split()])


_UNITS = _spelled("m g t T G M K % km dm cm mm ha nm yd in ft kg mg lb oz Pa mb MB kb KB gb GB tb TB kmh mph hPa")
_LONGEST_UNIT = 3


@pasted
def _unit(start, end):  # type: ignore[no-untyped-def]
    """Bytes of the unit of measure after a digit at the end of a chunk, or 0: `km`, `GB`, `%`. ASCII ones only."""
    size, spelled = 0, np.int64(0)
    while size <= _LONGEST_UNIT and end - size > start:
        byte = np.int64(load_byte(end - size - 1))
        if is_digit(byte):
            break
        spelled |= byte << (8 * size)
        size += 1
    if size == 0 or size > _LONGEST_UNIT or end - size == start:
        return 0
    for unit in _UNITS:
        if unit == spelled:
            return size
    return 0


@part
def _suffix(start, end, characters):  # type: ignore[no-untyped-def]
    """Bytes of the mark that is taken off at the end of a chunk, or 0; `'s` and units after digits are such marks."""
    last = np.int64(load_byte(end - 1))
    if last == _STOP:
        return _final_stops(start, end, characters)
    if last == 115 or last == 83:  # 's
        if end - start >= 2 and load_byte(end - 2) == 39:
            return 2
        if end - start >= 4 and last_code_point(start, end - 1)[0] == _APOSTROPHE:
            return 4
    if last < 128:
        unit = _unit(start, end) if last == 37 or 65 <= last <= 122 else 0
        if unit > 0:
            return unit
        if properties_of(characters, last) & character.OUTER != 0:
            return 1
        after_digit = end - start >= 2 and is_digit(load_byte(end - 2))
        return 1 if after_digit and (last == 36 or last == _PLUS) else 0
    stop = end
    nearest = max(start, end - _MOST_EXTENSIONS)
    point, size = last_code_point(start, stop)
    while stop - size > nearest and _EXTEND <= properties_of(characters, point) & character.CLASS <= _ZWJ:
        stop -= size
        point, size = last_code_point(start, stop)
    properties = properties_of(characters, point)
    before_digit = stop - size > start and is_digit(load_byte(stop - size - 1))
    taken = properties & character.OUTER != 0 or _is_dash(point)
    if taken or (before_digit and properties & character.CURRENCY != 0):
        return end - stop + size
    return 0


@pasted
def _final_stops(start, end, characters):  # type: ignore[no-untyped-def]
    """Two full stops or more, or one after a lower-case letter, two upper-case ones, a digit or some marks; else 0."""
    before = end - 1
    while before > start and load_byte(before - 1) == 46:
        before -= 1
    if end - before > 1:
        return end - before
    if before == start:
        return 0
    point, size = last_code_point(start, before)
    properties = properties_of(characters, point)
    if is_digit(point) or _is_lower(properties) or properties & character.OUTER != 0:
        return 1
    if point in (37, 0xB2, _HYPHEN, _PLUS, 124):
        return 1
    if properties & character.UPPER_CASE != 0 and before - size > start:
        point, _ = last_code_point(start, before - size)
        return 1 if properties_of(characters, point) & character.UPPER_CASE != 0 else 0
    return 0


@inlined
def _in_host(byte):  # type: ignore[no-untyped-def]
    """A letter or digit of a host's name; any byte of another script counts as one."""
    return 97 <= byte | 32 <= 122 or is_digit(byte) or byte > 127


@part
def _is_host(start, end, characters):  # type: ignore[no-untyped-def]
    """Whether a name of two labels or more, the last one of lower-case letters, or an IPv4 address, then a port and a
    path if there is more."""
    labels, numbers, label, position = 0, 0, start, start
    lower = digits = True
    while position <= end:
        byte = np.int64(load_byte(position)) if position < end else np.int64(0)
        if position < end and (_in_host(byte) or byte == _HYPHEN or byte == 95):
            digits = digits and is_digit(byte)
            if byte > 127:
                point, size = code_point(position, end)
                lower = lower and _is_lower(properties_of(characters, point))
                position += size
            else:
                lower = lower and 97 <= byte <= 122
                position += 1
            continue
        size = position - label
        if size == 0 or not _in_host(load_byte(label)) or not _in_host(load_byte(position - 1)) or size > 64:
            return False
        labels += 1
        numbers += digits and size <= 3
        if byte != _STOP:
            break
        position += 1
        label = position
        lower = digits = True
    name = labels >= 2 and lower and position - label >= 2
    if not (name or (labels == 4 and numbers == 4)):
        return False
    if position < end and load_byte(position) == _COLON:
        port = position + 1
        while port < end and is_digit(load_byte(port)):
            port += 1
        if not 3 <= port - position <= 6:
            return False
        position = port
    if position >= end:
        return True
    byte = load_byte(position)
    return byte == _SLASH or byte == 63 or byte == 35


@pasted
def _is_url(start, end, characters):  # type: ignore[no-untyped-def]
    """Whether a chunk is a URL, with or without a scheme, or an e-mail address."""
    stop = start
    while stop < end and load_byte(stop) != _STOP:
        stop += 1
    if stop == end:  # most chunks: no host's name without a full stop
        return False
    host = position = start
    while position < end:
        byte = np.int64(load_byte(position))
        if not (_in_host(byte) or byte in (_PLUS, _HYPHEN, _STOP, 95)):
            break
        position += 1
    scheme = position - start >= 2 and position + 3 <= end and load_byte(position) == _COLON
    if scheme and load_byte(position + 1) == _SLASH and load_byte(position + 2) == _SLASH:
        host = position + 3
    if _is_host(host, end, characters):
        return True
    at = end - 1
    while at > host and load_byte(at) != 64:
        at -= 1
    return at > host and _is_host(at + 1, end, characters)


@part
def _splits(start, position, end, before, characters):  # type: ignore[no-untyped-def]
    """Bytes of the mark that cuts the inside of a chunk at a position, or 0; `before` is the code point before it."""
    point, size = code_point(position, end)
    if point == _ELLIPSIS:
        return size
    if point == _STOP:
        run = _dots(position, end)
        if run > 1:
            return run
    if position == start or position + size >= end:
        return 0
    properties = properties_of(characters, before)
    letter = properties & character.LETTER != 0
    following, _ = code_point(position + size, end)
    after = properties_of(characters, following)
    if point == _STOP:
        lower = _is_lower(properties) or properties & character.QUOTE != 0
        return 1 if lower and after & (character.UPPER_CASE | character.QUOTE) != 0 else 0
    if point == _COMMA:
        return 1 if letter and after & character.LETTER != 0 else 0
    if is_digit(before) and point in (42, _PLUS, _HYPHEN, 94) and (is_digit(following) or following == _HYPHEN):
        return 1
    if not (letter or is_digit(before)):
        return 0
    if point in (_COLON, _SLASH) or 60 <= point <= 62:
        return 1 if after & character.LETTER != 0 else 0
    if point in (_HYPHEN, 126) or _is_dash(point):
        most = 3 if point == _HYPHEN else 2 if point == _EM_DASH else 1
        dashes = 1
        stop = position + size
        while dashes < most and following == point:
            dashes += 1
            stop += size
            if stop >= end:
                return 0
            following, _ = code_point(stop, end)
        return stop - position if properties_of(characters, following) & character.LETTER != 0 else 0
    return 0


@inlined
def _stands_alone(properties):  # type: ignore[no-untyped-def]
    """A letter of a script without spaces, which only the annex joins to others."""
    kind = properties & character.CLASS
    return properties & character.LETTER != 0 and kind != _A_LETTER and kind != _HEBREW


@part
def _cut_inside(text, start, end, characters, masks):  # type: ignore[no-untyped-def]
    """Cut what is left of a chunk between the marks at its ends."""
    if _is_url(start, end, characters):
        _add(text, start, end, masks)
        return
    word = position = start
    before = np.int64(0)
    properties_before = np.int64(0)
    while position < end:
        point, size = code_point(position, end)
        properties = properties_of(characters, point)
        kind = properties & character.CLASS
        if position > start and _EXTEND <= kind <= _ZWJ:  # WB4
            position += size
            continue
        mark = 0
        if properties & (character.LETTER | character.DIGIT) == 0:
            mark = _splits(start, position, end, before, characters)
        if mark > 0:
            if position > word:
                _add(text, word, position, masks)
            stop = _after_extensions(position + mark, end, characters)
            _add(text, position, stop, masks)
            word = position = stop
        else:
            if position > word:
                alone = _stands_alone(properties) or _stands_alone(properties_before)
                joined = kind == _KATAKANA and properties_before & character.CLASS == _KATAKANA  # WB13
                marks = (properties | properties_before) & character.LETTER_OR_NUMBER == 0
                if (alone and not joined) or (marks and max(point, before) >= _WIDE_SCRIPTS):
                    _add(text, word, position, masks)
                    word = position
            position += size
        before, properties_before = point, properties
    if word < end:
        _add(text, word, end, masks)


@part
def _add_exception(text, start, end, cuts, masks):  # type: ignore[no-untyped-def]
    """An exception, in up to three pieces."""
    first, second = start + (cuts & 15), start + (cuts >> 4)
    if first > start:
        _add(text, start, first, masks)
    if second > start:
        _add(text, first, second, masks)
    _add(text, max(first, second), end, masks)


@part
def _cut_piece(text, start, end, limit, characters, exceptions, masks):  # type: ignore[no-untyped-def]
    """Cut a chunk without spaces and icons."""
    while start < end:
        prefix = suffix = np.int64(0)
        for turn in range(3):  # is it an exception as it is, without its first mark, without its last one?
            if turn == 1:
                prefix = np.int64(_prefix(start, end, characters))
            elif turn == 2 and start + prefix < end:
                suffix = np.int64(_suffix(start + prefix, end, characters))
            first = start + prefix if turn == 1 else start
            last = end - suffix
            if turn > 0 and first == start and last == end:
                continue
            cuts = find_exception(first, last, limit, exceptions)
            if cuts >= 0:
                if first > start:
                    _add(text, start, first, masks)
                if last < end:
                    _add(text, last, end, masks)
                _add_exception(text, first, last, cuts, masks)
                return
        if prefix == 0 and suffix == 0:
            _cut_inside(text, start, end, characters, masks)
            return
        if prefix > 0:
            _add(text, start, start + prefix, masks)
        if suffix > 0:
            _add(text, end - suffix, end, masks)
        start += prefix
        end -= suffix


@inlined
def _is_pair(first, second):  # type: ignore[no-untyped-def]
    """`:)`, `):`, `:(`, `(:`, `;)`, `(;` and two apostrophes."""
    if first == 39:
        return second == 39
    if first == 58:
        return second == 40 or second == 41
    if first == 59:
        return second == 41
    return (first == 41 and second == 58) or (first == 40 and (second == 58 or second == 59))


@inlined
def _has_bit(masks, at):  # type: ignore[no-untyped-def]
    return (load_word(masks + 8 * (at >> 6)) >> np.uint64(at & 63)) & ONE != np.uint64(0)


@pasted
def _join_pairs(text, start, end, masks):  # type: ignore[no-untyped-def]
    """Two neighbours that were taken off one by one are one word where they are a pair of their own."""
    address = start
    while address + 1 < end:
        at = address - text
        if _is_pair(load_byte(address), load_byte(address + 1)) and (
            _has_bit(masks[0], at) and _has_bit(masks[0], at + 1) and _has_bit(masks[1], at + 2)
        ):
            _clear_bits(masks[0], at + 1, at + 2)
            _clear_bits(masks[1], at + 1, at + 2)
            address += 1
        address += 1


@pasted
def _icon_end(address, end, characters):  # type: ignore[no-untyped-def]
    """Where an icon ends: with what extends it, what a joiner adds to it (WB3c), the second half of a flag."""
    start = address
    point, size = code_point(address, end)
    flag = properties_of(characters, point) & character.CLASS == _FLAG
    address = _after_extensions(address + size, end, characters)
    while address < end and load_byte(address) > 127:
        point, size = code_point(address, end)
        properties = properties_of(characters, point)
        joined = properties & character.PICTOGRAPH != 0 and last_code_point(start, address)[0] == 0x200D
        if not joined and not (flag and properties & character.CLASS == _FLAG):
            break
        flag = False
        address = _after_extensions(address + size, end, characters)
    return address


@part
def cut_chunk(text, start, end, limit, characters, exceptions, masks):  # type: ignore[no-untyped-def]
    """Find the words of a chunk, addresses [start, end) between ASCII spaces; its bits in the masks are made anew.

    Other spaces cut it, and so does an icon, which is a word of its own.
    """
    _clear_bits(masks[0], start - text, end - text)
    _clear_bits(masks[1], start - text + 1, end - text + 1)
    begin = position = start
    while position < end:
        if load_byte(position) < 128:
            position += 1
            continue
        point, size = code_point(position, end)
        properties = properties_of(characters, point)
        stop = position + size
        if properties & character.ICON != 0:
            stop = _icon_end(position, end, characters)
            _add(text, position, stop, masks)
        elif properties & character.NOT_SPACE != 0:
            position = stop
            continue
        if position > begin:
            _cut_piece(text, begin, position, limit, characters, exceptions, masks)
        begin = position = stop
    if end > begin:
        _cut_piece(text, begin, end, limit, characters, exceptions, masks)
    _join_pairs(text, start, end, masks)
