"""What DCLM does to a text before its filters look at it: URLs and IP addresses go, and runs of newlines get short.

Patterns are those of DCLM's code (`baselines/mappers/modifiers.py`, url_removal_modifier and newline_removal_modifier;
RefinedWeb removes URLs too, Penedo et al. 2023, section 3.1), run by RE2 through Arrow in linear time, about 100 MB/s a
core where there are URLs. Differences: `\\s` and `\\b` are ASCII's, a host may be longer than 256 characters, top-level
domains in other scripts are left out.
"""

import re
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field
from pydantic.dataclasses import dataclass

from curate.documents import Batch
from curate.filters.judging import switched_on
from curate.steps import STEP_CONFIG, Edit, Outcome, Rule, judge

_DOMAINS = Path(__file__).parent / "data" / "top_level_domains.txt"
_TAIL = r"[-a-zA-Z0-9()@:%_\+.~#?&/=]*"
_SCHEME = r"(?:(?:https?|ftp)://)?"
_ADDRESS = rf"\s{{0,10}}\b{_SCHEME}(?:[0-2]?[0-9]{{1,2}}\.){{3}}[0-2]?[0-9]{{1,2}}{_TAIL}"
_MAYBE_URL = r"[-a-zA-Z0-9@:%._+~#=]\.[a-z][a-z]"
_MAYBE_ADDRESS = r"[0-9]\.[0-9]{1,3}\."


@cache
def url_pattern() -> str:
    """A host with a top-level domain, with what stands around it: up to ten spaces, the scheme, the path."""
    lines = _DOMAINS.read_text(encoding="utf-8").splitlines()
    names = " ".join(line for line in lines if not line.startswith("#")).split()
    return rf"\s{{0,10}}{_SCHEME}[-a-zA-Z0-9@:%._\+~#=]+\.(?:{'|'.join(map(re.escape, names))})\b{_TAIL}"


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class DclmClean(Edit):
    """Removes URLs from texts and shortens runs of newlines."""

    name: ClassVar[str] = "dclm_clean"
    version: ClassVar[int] = 1  # raise it when filters/data/top_level_domains.txt changes
    measured_by: ClassVar[tuple[str, ...]] = ("urls", "addresses", "max_newlines")

    urls: bool = True
    """Remove hosts with a known top-level domain, with scheme, path and the space before; e-mail addresses too."""
    addresses: bool = True
    """Remove IPv4 addresses, with the same around them, and what looks like one."""
    max_newlines: Annotated[int, Field(ge=1)] | None = 2
    """Most newlines in a row."""
    min_bytes_left: Annotated[int, Field(ge=0)] | None = 1
    """Drop a page of which less is left; the code drops empty ones."""

    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        """`dclm_clean.bytes_left`; float64, one a document."""
        return _signals(self._cleaned(batch))

    def rules(self) -> tuple[Rule, ...]:
        """Something is left."""
        return switched_on(
            Rule("dclm_clean.bytes_left", "dclm_clean.bytes_left", at_least=self.min_bytes_left, span=(0, 20_000))
        )

    def process(self, batch: Batch) -> Outcome:
        """Edit, then decide on what is left."""
        texts = self._cleaned(batch)
        signals = _signals(texts)
        keep, left = judge(self.rules(), signals, len(batch))
        removed = _sizes(batch.texts) - _sizes(texts)
        after = batch.with_text(texts) if removed.any() else batch
        return Outcome(after.filter(keep), left, edited=removed[keep], signals=signals)

    def _cleaned(self, batch: Batch) -> pa.Array:
        texts = batch.texts
        if self.urls:
            texts = _replaced(texts, _MAYBE_URL, url_pattern(), "")
        if self.addresses:
            texts = _replaced(texts, _MAYBE_ADDRESS, _ADDRESS, "")
        if self.max_newlines is not None:
            most = "\n" * self.max_newlines
            texts = _replaced(texts, most + "\n", rf"\n{{{self.max_newlines + 1},}}", most)
        return texts


def _replaced(texts: pa.Array, hint: str, pattern: str, by: str) -> pa.Array:
    """Texts with each match of the pattern replaced; only those where the quick `hint` matches are looked at."""
    candidates = pc.fill_null(pc.match_substring_regex(texts, hint), False)
    if not pc.any(candidates).as_py():
        return texts
    return pc.replace_with_mask(texts, candidates, pc.replace_substring_regex(texts.filter(candidates), pattern, by))


def _sizes(texts: pa.Array) -> np.ndarray:
    return pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _signals(texts: pa.Array) -> dict[str, np.ndarray]:
    return {"dclm_clean.bytes_left": _sizes(texts).astype(np.float64)}
