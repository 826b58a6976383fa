"""How well MinHash finds near-duplicates: recall beside theory, the estimate's error, and pairs that are none.

    python benchmarks/dedup/quality.py --data ../shared/data --out benchmarks/dedup/quality.json

Pairs of known Jaccard similarity of word 5-grams: real revisions (data/dedup; one pair of each family of revisions in
each bin of similarity, so that trials do not depend on each other), and pieces of real text with 1, 5, 10, 20 or 30% of
the words replaced. Over at least 20 seeds of the hash functions the share found by the banding must lie within the 99%
binomial band of 1 - (1 - s^rows)^bands, and the estimate's root mean square error must not exceed 1.1 times
sqrt(s (1 - s) / minima). With exact verification each removal is checked against sets of n-grams in plain Python.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import binom

from curate.dedup.minhash import MinHash
from curate.dedup.presets import PRESETS, Banding
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.kernels.minhash import HashFunctions, band_keys, jaccard_pairs, sketches
from curate.kernels.shingles import shingles
from curate.kernels.unionfind import connected_components

EDITS = (0.01, 0.05, 0.1, 0.2, 0.3)
BAND = 0.99
PIECE_WORDS = 400
BIN = 0.05


@dataclass(frozen=True)
class Pairs:
    """Texts, and which of them are pairs."""

    texts: pa.Array
    left: np.ndarray
    right: np.ndarray


def planted(words: Sequence[str], share: float, *, pairs: int, seed: int) -> Pairs:
    """Pieces of a text, each beside a copy with a share of its words replaced by others of the text."""
    rng = random.Random(f"{seed} {share}")
    texts = []
    for _ in range(pairs):
        start = rng.randrange(len(words) - PIECE_WORDS)
        piece = list(words[start : start + PIECE_WORDS])
        other = [rng.choice(words) if rng.random() < share else word for word in piece]
        texts += [" ".join(piece), " ".join(other)]
    return Pairs(pa.array(texts), np.arange(0, 2 * pairs, 2), np.arange(1, 2 * pairs, 2))


def revisions(folder: Path, ngram: int) -> Pairs:
    """The pairs of data/dedup whose documents are there, one of each family in each bin of similarity."""
    documents = pq.read_table(folder / "dedup_docs.parquet", columns=["id", "text"])
    row_of = {identifier: row for row, identifier in enumerate(documents["id"].to_pylist())}
    named = pq.read_table(folder / "dedup_pairs.parquet", columns=["id_a", "id_b"]).to_pylist()
    rows = [(row_of[p["id_a"]], row_of[p["id_b"]]) for p in named if p["id_a"] in row_of and p["id_b"] in row_of]
    texts = documents["text"].combine_chunks()
    left, right = np.array(rows).T
    family = connected_components(len(texts), left, right)[left]
    bins = np.floor(true_similarity(Pairs(texts, left, right), ngram) / BIN)
    _, chosen = np.unique(np.stack([family, bins], axis=1), axis=0, return_index=True)
    return Pairs(texts, left[chosen], right[chosen])


def true_similarity(pairs: Pairs, ngram: int) -> np.ndarray:
    """Jaccard similarity of the pairs' sets of shingles."""
    held = sketches(pairs.texts, ngram, sets=True)
    return jaccard_pairs(held.offsets, held.sets, pairs.left, pairs.right)


def measured(pairs: Pairs, banding: Banding, seeds: range) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each seed: true similarity, whether found, estimated similarity of each pair."""
    true = true_similarity(pairs, banding.ngram)
    for seed in seeds:
        functions = HashFunctions.of(banding.minima, seed=seed)
        minima = sketches(pairs.texts, banding.ngram, functions=functions).minima
        keys = band_keys(minima, banding.bands, banding.rows)
        found = (keys[pairs.left] == keys[pairs.right]).any(axis=1)
        yield true, found, (minima[pairs.left] == minima[pairs.right]).mean(axis=1)


def judged(true: np.ndarray, found: np.ndarray, estimate: np.ndarray, banding: Banding) -> dict[str, float | bool]:
    """What came of some pairs (found, estimate: one row a seed) beside what theory says."""
    expected = np.mean([banding.probability_found(similarity) for similarity in true])
    trials = found.size
    low, high = binom.interval(BAND, trials, expected)
    error = float(np.sqrt(np.mean((estimate - true) ** 2)))
    bound = float(np.sqrt(np.mean(true * (1 - true)) / banding.minima))
    return {
        "similarity": float(true.mean()),
        "pairs": len(true),
        "trials": trials,
        "recall": float(found.mean()),
        "theory": float(expected),
        "low": float(low / trials),
        "high": float(high / trials),
        "within": bool(low <= found.sum() <= high),
        "rmse": error,
        "rmse_of_theory": bound,
    }


def compared(pairs: Pairs, banding: Banding, seeds: range, bins: bool) -> list[dict[str, float | bool]]:
    """All pairs together, or those of each bin of true similarity."""
    rows = list(measured(pairs, banding, seeds))
    true, found, estimate = rows[0][0], np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    groups = np.floor(true / BIN) if bins else np.zeros(len(true))
    some = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return [judged(true[own], found[:, own], estimate[:, own], banding) for own in some]


def false_removals(texts: pa.Array, step: MinHash) -> tuple[int, int]:
    """Removals by exact verification, and those whose similarity to the survivor is not what the ledger says or below
    the threshold: by Python's sets of shingles."""
    ids = pa.array([f"d{i:06}" for i in range(len(texts))])
    columns = {name: pa.nulls(len(ids), DOCUMENT_SCHEMA.field(name).type) for name in DOCUMENT_SCHEMA.names}
    columns |= {"id": ids, "text": texts.cast(pa.string())}
    batch = Batch(pa.RecordBatch.from_arrays(list(columns.values()), schema=DOCUMENT_SCHEMA))
    left = step.process(batch).left.to_pylist()
    offsets, hashes = shingles(texts, step.banding.ngram)
    wrong = 0
    for row in left:
        survivor = int(row["survivor"][1:])
        a, b = (set(hashes[offsets[i] : offsets[i + 1]].tolist()) for i in (row["row"], survivor))
        true = len(a & b) / len(a | b) if a | b else 1.0
        wrong += true < step.least_similarity or abs(true - row["value"]) > 1e-12
    return len(left), wrong


def drawn(
    planted: dict[str, dict[str, float | bool]], real: list[dict[str, float | bool]], path: Path, of: str
) -> None:
    """Recall beside the curve, with the 99% band of each point."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    banding = PRESETS[of]  # type: ignore[index]
    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=150)
    at = np.linspace(0, 1, 400)
    label = f"theory, {banding.bands} bands x {banding.rows} rows"
    axes.plot(at, [banding.probability_found(s) for s in at], color="#444444", linewidth=1.5, label=label)
    groups = (("real revisions", real, "o", "#0072B2"), ("planted edits", list(planted.values()), "D", "#D55E00"))
    for name, points, marker, colour in groups:
        x = [point["similarity"] for point in points]
        theory, low, high = (np.array([point[key] for point in points]) for key in ("theory", "low", "high"))
        axes.errorbar(
            x,
            theory,
            yerr=np.maximum([theory - low, high - theory], 0),
            fmt="none",
            ecolor=colour,
            alpha=0.5,
            capsize=4,
        )
        axes.scatter(x, [point["recall"] for point in points], marker=marker, s=28, color=colour, label=name, zorder=3)
    for share, point in planted.items():
        axes.annotate(
            share, (point["similarity"], point["recall"]), xytext=(7, -11), textcoords="offset points", size=8
        )
    axes.set_xlabel("Jaccard similarity of word 5-grams")
    axes.set_ylabel("share of pairs that share a band")
    axes.set_title(f"`{of}`: pairs found beside theory, with 99% binomial bands", size=11)
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Measure, print, store and draw."""
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=here.parents[2] / ".." / "shared" / "data")
    parser.add_argument(
        "--preset", default="fineweb", choices=[name for name in PRESETS if PRESETS[name].unit == "words"]
    )
    parser.add_argument("--seeds", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=here.parent / "quality.json")
    options = parser.parse_args()
    banding, seeds = PRESETS[options.preset], range(options.seeds)
    text = " ".join(
        pq.read_table(options.data / "text" / "textbooks.parquet", columns=["text"])["text"].to_pylist()[:300]
    )
    words = text.split()
    of_edits = {
        f"{share:.0%}": compared(planted(words, share, pairs=options.pairs, seed=options.seed), banding, seeds, False)[
            0
        ]
        for share in EDITS
    }
    real = revisions(options.data / "dedup", banding.ngram)
    of_revisions = compared(real, banding, seeds, bins=True)
    whole = compared(real, banding, seeds, bins=False)[0]
    removed, wrong = false_removals(
        real.texts, MinHash(preset=options.preset, keep="longest", require_similar_to_survivor=True)
    )
    points = [*of_edits.values(), *of_revisions]
    result = {
        "what": f"recall of `{options.preset}` over {options.seeds} seeds beside 1 - (1 - s^r)^b, in {BAND:.0%} bands",
        "seed": options.seed,
        "planted_edits": of_edits,
        "real_revisions_by_similarity": of_revisions,
        "real_revisions": whole,
        "points": len(points),
        "points_outside_of_their_band": sum(not point["within"] for point in points),
        "worst_rmse_over_theory": max(p["rmse"] / p["rmse_of_theory"] for p in (*of_edits.values(), whole)),
        "exact_verification": {"removed": removed, "false": wrong},
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    drawn(of_edits, of_revisions, options.out.with_suffix(".png"), options.preset)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
