"""Bandings of MinHash signatures: how many bands, of how many rows, over n-grams of how many words or characters.

Two documents with Jaccard similarity s share at least one band with probability 1 - (1 - s^rows)^bands (Leskovec,
Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4): an S-curve, steepest near (1/bands)^(1/rows). That
similarity is our default threshold of verification: verified duplicates are then what the banding itself takes for
duplicates, minus its false pairs.
"""

from dataclasses import dataclass
from typing import Literal

from curate.kernels.shingles import Unit


@dataclass(frozen=True)
class Banding:
    """A shape of signature."""

    bands: int
    """Bands; documents that agree in all rows of one band are a candidate pair."""
    rows: int
    """Minima in a band."""
    ngram: int
    """Words or characters in a shingle."""
    unit: Unit = "words"
    """Which of the two"""

    @property
    def minima(self) -> int:
        """Length of a signature."""
        return self.bands * self.rows

    @property
    def midpoint(self) -> float:
        """Where the S-curve is steepest, (1/bands)^(1/rows), to two decimals: .72 for 14x8, .74 for 450x20."""
        return round((1 / self.bands) ** (1 / self.rows), 2)

    def probability_found(self, similarity: float) -> float:
        """Probability that two documents of this Jaccard similarity become a candidate pair."""
        return 1 - (1 - similarity**self.rows) ** self.bands


PresetName = Literal["fineweb", "refinedweb", "nemotron_cc", "bigcode"]

PRESETS: dict[PresetName, Banding] = {
    # FineWeb, as datatrove's example pipeline runs it: one MinHash per dump, 14 buckets of 8 hashes, word 5-grams.
    "fineweb": Banding(bands=14, rows=8, ngram=5),
    # RefinedWeb: 9,000 hashes over word 5-grams. 3.6 kB of band keys a document, and 80 times the hashing of `fineweb`.
    "refinedweb": Banding(bands=450, rows=20, ngram=5),
    # Nemotron-CC's recipe in NeMo Curator: 20 bands of 13 hashes over 24-grams of characters.
    "nemotron_cc": Banding(bands=20, rows=13, ngram=24, unit="characters"),
    # The Stack (bigcode-dataset, near_deduplication): 256 hashes over word 5-grams, 25 x 10 of which its search for the
    # threshold .7 takes. There words are parted by all but ASCII letters, digits and `_`, and case counts.
    "bigcode": Banding(bands=25, rows=10, ngram=5),
}
"""Published bandings; all of them over our words and characters (curate.kernels.shingles)."""
