"""Personal data: e-mail and IP addresses as FineWeb masks them, and telephone numbers, IBANs and card numbers beside.

What counts as which is in curate/kernels/pii_rules.py and docs/pii.md: valid ones only, so that versions, times and
order numbers stay; addresses that are no one's (private networks, example.com, 555-01XX) stay too. All five kinds are
counted whatever is masked. Placeholders take turns; a hash of the document's id says with which one it begins, so
that the same document always gets the same ones (datatrove's turn depends on what came before).
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from curate.documents import Batch
from curate.filters.judging import switched_on
from curate.kernels.hashing import hash_strings
from curate.kernels.pii import KINDS, Findings, find_pii, replace_findings
from curate.steps import STEP_CONFIG, Edit, Outcome, Rule, judge
from curate.units import OneOrSeveral

Kind = Literal["email", "ip", "phone", "iban", "card"]
PUBLISHED: tuple[Kind, ...] = ("email", "ip")
"""What FineWeb masks."""
_AROUND = ("{}", "from {}", "Tel.: {}")
"""What may stand before a placeholder and make it look like a finding."""

PARTS: dict[str, tuple[str, ...]] = {
    "email": ("email",),
    "ip": ("ipv4", "ipv6"),
    "phone": ("phone",),
    "iban": ("iban",),
    "card": ("card",),
}
"""What the kernel calls each kind."""

PLACEHOLDERS: dict[str, tuple[str, ...]] = {
    "email": ("email@example.com", "firstname.lastname@example.org"),  # datatrove's; domains of RFC 2606
    "ipv4": ("192.0.2.1", "198.51.100.1", "203.0.113.1"),  # RFC 5737; datatrove has six addresses that are someone's
    "ipv6": ("2001:db8::1", "2001:db8::2"),  # RFC 3849
    "phone": ("+1 202-555-0100", "+1 202-555-0101"),  # 555-0100 to 555-0199 are kept for fiction
    "iban": ("[IBAN]",),
    "card": ("[card number]",),
}
"""No one's addresses and numbers: none is found again."""


@dataclass(kw_only=True, config=STEP_CONFIG, repr=False)
class Pii(Edit):
    """Puts placeholders for personal data, or drops the documents that have it."""

    name: ClassVar[str] = "pii"
    version: ClassVar[int] = 1
    measured_by: ClassVar[tuple[str, ...]] = ("mask", "placeholders", "seed")

    mask: list[Kind] = Field(default_factory=lambda: list(PUBLISHED))
    """What is replaced; FineWeb: e-mail and public IP addresses."""
    drop: dict[Kind, Annotated[int, Field(ge=0)]] | None = None
    """Most findings of a kind that a document may have: `{card: 0}` drops each one with a card number."""
    placeholders: dict[Literal["email", "ipv4", "ipv6", "phone", "iban", "card"], OneOrSeveral] = Field(
        default_factory=dict
    )
    """Other words in place of the ones built in; several take turns, `""` takes the finding out."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """With another one, documents begin with other placeholders."""

    @field_validator("placeholders")
    @classmethod
    def _are_not_found(cls, placeholders: dict[str, OneOrSeveral]) -> dict[str, OneOrSeveral]:
        words = [word for several in placeholders.values() for word in _several(several)]
        found = find_pii(pa.array([around.format(word) for word in words for around in _AROUND], pa.string()))
        if len(found):
            word, kind = words[found.document[0] // len(_AROUND)], KINDS[found.kind[0]]
            raise ValueError(
                f"the placeholder {word!r} would itself be found ({kind}), and masked again; take one that is no one's"
            )
        return placeholders

    def measure(self, batch: Batch) -> dict[str, np.ndarray]:
        """`pii.email`, `pii.ip`, `pii.phone`, `pii.iban`, `pii.card`: how many; float64, one a document."""
        return _signals(find_pii(batch.texts), len(batch))

    def rules(self) -> tuple[Rule, ...]:
        """One for each kind in `drop`."""
        most: dict[str, int] = {str(kind): count for kind, count in (self.drop or {}).items()}
        return switched_on(
            *(Rule(f"pii.{kind}", f"pii.{kind}", at_most=most.get(kind), span=(0, 20)) for kind in PARTS)
        )

    def process(self, batch: Batch) -> Outcome:
        """Find, decide, then mask what stays."""
        found = find_pii(batch.texts)
        signals = _signals(found, len(batch))
        keep, left = judge(self.rules(), signals, len(batch))
        wanted = np.array([any(kind in PARTS[name] for name in self.mask) for kind in KINDS])
        masked = found.select(wanted[found.kind] & keep[found.document])
        edited = np.zeros(len(batch), dtype=np.int64)
        np.add.at(edited, masked.document, masked.end.astype(np.int64) - masked.start)
        if len(masked):
            batch = batch.with_text(self._masked(batch, masked))
        return Outcome(batch.filter(keep), left, edited=edited[keep], signals=signals)

    def _masked(self, batch: Batch, found: Findings) -> pa.Array:
        words = {kind: _several(self.placeholders.get(kind, PLACEHOLDERS[kind])) for kind in KINDS}  # type: ignore[call-overload]
        turn = hash_strings(batch.ids) + np.uint64(self.seed)
        return replace_findings(batch.texts, found, words, turn=turn)


def _signals(found: Findings, documents: int) -> dict[str, np.ndarray]:
    counts = found.counts(documents)
    return {
        f"pii.{name}": counts[:, [KINDS.index(kind) for kind in kinds]].sum(axis=1).astype(np.float64)
        for name, kinds in PARTS.items()
    }


def _several(words: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)
