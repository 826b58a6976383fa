"""Personal data in texts: where e-mail and IP addresses, IBANs, card and telephone numbers stand; masking it.

One pass marks in 64 bytes at a time each `@`, each `:` and each first digit; only there the checks of pii_rules.py
and pii_phones.py look. Of two findings that share bytes the one of the kind that comes first in KINDS stays, of one
kind the first in the text. A finding costs 17 bytes; texts without any are not copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.kernels.compile import kernel
from curate.kernels.hashing import hash_strings
from curate.kernels.memory import (
    BLOCK,
    ONE,
    TOP,
    ZERO,
    address_of,
    block_address,
    copy_bytes,
    first_bits,
    load_byte,
    trailing_zeros,
)
from curate.kernels.pii_phones import phone_at
from curate.kernels.pii_rules import card_at, email_at, iban_at, ipv4_at, ipv6_at
from curate.kernels.strings import string_array, string_buffers
from curate.kernels.vectors import block_masks, equal, within

KINDS = ("email", "ipv4", "ipv6", "iban", "card", "phone")
"""Number of a kind = its place here; the first ones win."""

_EMAIL, _IPV4, _IPV6, _IBAN, _CARD, _PHONE = range(6)
_SHORTEST_BYTES = 5
"""No finding is shorter: 1::2 is no public address, a@b.cc has six bytes."""


@block_masks(2)
def _marks(builder: Any, block: Any) -> list[Any]:
    """64 bytes at an address -> bit masks: digits; `@` or `:`."""
    return [within(builder, block, ord("0"), ord("9")), equal(builder, block, "@:")]


@kernel
def _find(data, offsets, scratch, tables, documents, starts, ends, kinds):  # type: ignore[no-untyped-def]
    not_domains, example_names, version_words, address_words, lengths, countries, phone_words, number_words = tables
    limit, spare = address_of(data, data.shape[0]), address_of(scratch, 0)
    n = np.int64(0)
    for i in range(offsets.shape[0] - 1):
        text, end = address_of(data, offsets[i]), address_of(data, offsets[i + 1])
        size = end - text
        first = n
        carried = ZERO
        for low in range(0, size, BLOCK):
            digits, others = _marks(block_address(text + low, limit, spare))
            candidates = ((digits & ~((digits << ONE) | carried)) | others) & first_bits(size - low)
            carried = digits >> TOP
            while candidates != ZERO:
                at = text + low + trailing_zeros(candidates)
                candidates &= candidates - ONE
                byte = load_byte(at)
                last = text + np.int64(ends[n - 1]) if n > first else np.int64(0)
                begin = stop = np.int64(0)
                kind = _EMAIL
                if byte == 64:
                    begin, stop = email_at(text, at, end, limit, not_domains, example_names)
                elif byte == 58:
                    kind = _IPV6
                    begin, stop = ipv6_at(text, at, end)
                elif at >= last or kinds[n - 1] == _PHONE:
                    joined = n > first and last == at - 1 and load_byte(at - 1) != 46
                    kind = _IPV4
                    begin, stop = ipv4_at(
                        text, at, end, limit, version_words, address_words, joined and kinds[n - 1] == _IPV4
                    )
                    if stop == 0:
                        kind = _IBAN
                        begin, stop = iban_at(text, at, end, lengths)
                    if stop == 0:
                        kind = _CARD
                        begin, stop = card_at(text, at, end)
                    if stop == 0 and at >= last:
                        kind = _PHONE
                        joined = joined and kinds[n - 1] == _PHONE
                        begin, stop = phone_at(text, at, end, limit, countries, phone_words, number_words, joined)
                if stop == 0:
                    continue
                wins = n
                while wins > first and text + np.int64(ends[wins - 1]) > begin and kinds[wins - 1] > kind:
                    wins -= 1
                if wins > first and text + np.int64(ends[wins - 1]) > begin:
                    continue
                n = wins
                documents[n], starts[n], ends[n], kinds[n] = i, begin - text, stop - text, kind
                n += 1
    return n


@kernel
def _replace(data, offsets, documents, starts, ends, choices, letters, bounds, out, out_offsets):  # type: ignore[no-untyped-def]
    source = address_of(data, 0)
    base = address_of(out, 0)
    words = address_of(letters, 0)
    target = base
    span = 0
    for i in range(offsets.shape[0] - 1):
        at = offsets[i]
        while span < documents.shape[0] and documents[span] == i:
            start = offsets[i] + np.int64(starts[span])
            copy_bytes(target, source + at, start - at)
            target += start - at
            low, high = bounds[choices[span]], bounds[choices[span] + 1]
            copy_bytes(target, words + low, high - low)
            target += high - low
            at = offsets[i] + np.int64(ends[span])
            span += 1
        copy_bytes(target, source + at, offsets[i + 1] - at)
        target += offsets[i + 1] - at
        out_offsets[i + 1] = target - base


def _hashes(words: Sequence[str]) -> np.ndarray:
    return hash_strings(pa.array(words))


def _codes() -> np.ndarray:
    """bool[1000]: the country codes that are given out (ITU-T E.164, list of 2016 and its notices)."""
    two = (20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58)
    two += (60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98)
    three = {21: "12368", 22: "0123456789", 23: "0123456789", 24: "0123456789", 25: "012345678", 26: "0123456789"}
    three |= {29: "01789", 35: "012345678 9", 37: "0123456789", 38: "0123567 9", 42: "013", 50: "0123456789"}
    three |= {
        59: "0123456789",
        67: "02345678 9",
        68: "012356789",
        69: "012",
        80: "08",
        85: "02356",
        87: "0",
        88: "0168",
    }
    three |= {96: "0123456789", 97: "012345 67", 99: "2345678"}
    codes = np.zeros(1000, dtype=np.bool_)
    codes[[1, 7, *two]] = True
    for tens, ones in three.items():
        for one in ones.replace(" ", ""):
            codes[tens * 10 + int(one)] = True
    return codes


_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
    "YE30"
)
"""The registry of ISO 13616 (SWIFT): length a country."""


def _iban_lengths() -> np.ndarray:
    lengths = np.zeros(26 * 26, dtype=np.uint8)
    for item in _IBAN_LENGTHS.split():
        lengths[(ord(item[0]) - 65) * 26 + ord(item[1]) - 65] = int(item[2:])
    return lengths


_FILE_ENDINGS = "png jpg jpeg gif svg webp bmp ico tif tiff css js jsx html htm php json xml txt pdf dll exe".split()
_EXAMPLES = "example.com example.net example.org example test invalid localhost".split()
_VERSIONS = (
    "v ver vers version versions versione versión rev revision release build firmware driver update upgrade sdk "
    "kernel patch section sections chapter clause appendix figure table"
).split()
_ADDRESS_WORDS = (
    "ip ips ipv address addresses addr host hosts hostname server client dns nameserver resolver gateway proxy router "
    "from by remote peer ping traceroute via node subnet inet adresse adressen adresses dirección direccion"
).split()
# After these, digits are a telephone number; after the second lot, only if a colon or full stop stands between.
_PHONE_WORDS = (
    "tel tél phone telephone téléphone teléfono telefono telefone telefon telefonnummer telefoonnummer puhelin "
    "telefonszám τηλ тел телефон fax telefax hotline whatsapp phones tels"
).split()
_WEAK_PHONE_WORDS = "mobile mobil mobiel móvil celular cell cellphone handy portable mob ph call".split()
_NUMBER_WORDS = "number numbers no nr num nummer numéro número is us at".split()

_TABLES: tuple[Any, ...] = (
    _hashes(_FILE_ENDINGS),
    _hashes(_EXAMPLES),
    _hashes(_VERSIONS),
    _hashes(_ADDRESS_WORDS),
    _iban_lengths(),
    _codes(),
    (_hashes(_PHONE_WORDS), _hashes(_WEAK_PHONE_WORDS)),
    _hashes(_NUMBER_WORDS),
)


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What was found, by text and then by place; they share no bytes."""

    document: np.ndarray = field(repr=False)
    """int64[f]: number of the text"""
    start: np.ndarray = field(repr=False)
    """uint32[f], bytes from the text's start"""
    end: np.ndarray = field(repr=False)
    """uint32[f]"""
    kind: np.ndarray = field(repr=False)
    """uint8[f]: place in KINDS"""

    def __len__(self) -> int:
        return len(self.kind)

    def select(self, keep: np.ndarray) -> Findings:
        """Those where `keep` (bool) is true."""
        return Findings(self.document[keep], self.start[keep], self.end[keep], self.kind[keep])

    def counts(self, texts: int) -> np.ndarray:
        """int64[texts, kinds]: how many of each kind each text has."""
        flat = np.bincount(self.document * len(KINDS) + self.kind, minlength=texts * len(KINDS))
        return flat.reshape(texts, len(KINDS))


def find_pii(texts: pa.Array) -> Findings:
    """All findings in an Arrow array of (large) strings; a null is an empty text."""
    data, offsets = string_buffers(texts)
    most = int(offsets[-1] - offsets[0]) // _SHORTEST_BYTES + 1
    documents, kinds = np.empty(most, dtype=np.int64), np.empty(most, dtype=np.uint8)
    starts, ends = np.empty(most, dtype=np.uint32), np.empty(most, dtype=np.uint32)
    n = _find(data, offsets, np.empty(BLOCK, dtype=np.uint8), _TABLES, documents, starts, ends, kinds)
    return Findings(documents[:n].copy(), starts[:n].copy(), ends[:n].copy(), kinds[:n].copy())


def replace_findings(
    texts: pa.Array, found: Findings, replacements: Mapping[str, Sequence[str]], *, turn: np.ndarray
) -> pa.Array:
    """The texts with other words for all findings; the array itself where there are none.

    Each kind has replacements that take turns within a text, beginning with number `turn[text]` (uint64) of them.
    """
    if not len(found):
        return texts
    words = [word.encode() for kind in KINDS for word in replacements.get(kind, ())]
    bounds = np.cumsum([0, *map(len, words)])
    sizes = np.array([len(replacements.get(kind, ())) for kind in KINDS])
    if missing := [KINDS[kind] for kind in np.unique(found.kind) if not sizes[kind]]:
        raise ValueError(f"No replacement for {', '.join(missing)}.")
    before = np.concatenate(([0], np.cumsum(sizes)))[found.kind]
    number = (turn[found.document] + _rank_within(found)) % sizes[found.kind].astype(np.uint64)
    choices = before + number.astype(np.int64)
    data, offsets = string_buffers(texts)
    gained = int((bounds[choices + 1] - bounds[choices]).sum() - (found.end.astype(np.int64) - found.start).sum())
    out = np.empty(int(offsets[-1] - offsets[0]) + gained, dtype=np.uint8)
    out_offsets = np.zeros(len(offsets), dtype=np.int64)
    letters = np.frombuffer(b"".join(words) or b"\0", dtype=np.uint8)
    _replace(data, offsets, found.document, found.start, found.end, choices, letters, bounds, out, out_offsets)
    replaced = string_array(out, out_offsets, texts.type)
    return pc.if_else(texts.is_null(), pa.scalar(None, texts.type), replaced) if texts.null_count else replaced


def _rank_within(found: Findings) -> np.ndarray:
    """uint64[f]: how many findings of the same kind stand before each one in its text."""
    group = found.document * len(KINDS) + found.kind
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(group) else np.empty(0, int)
    rank = np.empty(len(group), dtype=np.uint64)
    first = np.repeat(starts, np.diff(np.concatenate((starts, [len(group)]))))
    rank[order] = (np.arange(len(group)) - first).astype(np.uint64)
    return rank
