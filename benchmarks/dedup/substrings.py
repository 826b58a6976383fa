"""Exact substrings on real words with planted repeats, beside a suffix array of the same text.

    python benchmarks/dedup/substrings.py --text ../shared/data/text --megabytes 500 --parts 20

Pieces of a dozen words of real documents, in an order drawn by seed, make documents of some 3 kB; into these go spans
of 50 to 400 words in 2 to 6 copies each, at any word, one licence header in a fiftieth of the documents, and documents
of one repeated byte. Each job runs in a process of its own; peaks are of memory that is its own (RssAnon, every 5 ms).
The suffix array (pydivsufsort: divsufsort and Kasai's table, then NumPy) finds the same spans: they must be equal, byte
for byte. CPU seconds of both, on one core: ours with reading, writing and checking its files, without the writing of
the documents. substrings_50.json is of 50 MB.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from exchange import Alone, in_process

from curate.dedup.substrings import DuplicateSubstrings
from curate.documents import Batch
from curate.engine import exchange as exchanging
from curate.engine.exchange import exchange_jobs, open_state
from curate.engine.jobs import PartJob
from curate.engine.recipe import StepSpec

PIECE_WORDS = 12
HEADER_SHARE = 0.02
SEPARATOR = 0xFF
"""In no UTF-8 text."""

Planted = list[list[tuple[int, int, int]]]
"""Copies of each span: document, first byte, end."""


def pieces_of(folder: Path) -> list[str]:
    """Runs of PIECE_WORDS words of all documents, each once."""
    found: set[str] = set()
    for path in sorted(folder.glob("*.parquet")):
        for text in pq.read_table(path, columns=["text"]).column("text").to_pylist():
            words = (text or "").split()
            found.update(" ".join(words[at : at + PIECE_WORDS]) for at in range(0, len(words), PIECE_WORDS))
    return sorted(found)


def corpus(pieces: list[str], size: int, rng: np.random.Generator) -> tuple[list[bytes], Planted]:
    """Documents of so many bytes together, and what was planted."""
    header = " ".join(pieces[at] for at in rng.integers(0, len(pieces), 12))
    documents, planted, held = [], [], 0
    headers: list[tuple[int, int, int]] = []
    waiting: list[tuple[int, str]] = []
    drawn = iter(())
    while held < size:
        wanted = int(rng.lognormal(7.6, 0.9)) // 70 + 1
        parts: list[str] = []
        marks: list[tuple[int, int]] = []
        for _ in range(wanted):
            at = next(drawn, None)
            if at is None:
                drawn = iter(rng.permutation(len(pieces)).tolist())
                at = next(drawn)
            parts.append(pieces[at])
        if rng.random() < 0.25:
            # A span of its own, copied into some of the documents that follow.
            words = " ".join(pieces[at] for at in rng.integers(0, len(pieces), 34)).split()
            span = " ".join(words[: rng.integers(52, 400)])
            planted.append([])
            waiting += [(len(planted) - 1, span)] * int(rng.integers(2, 7))
        if rng.random() < HEADER_SHARE:
            marks.append((0, -1))
            parts.insert(0, header)
        while waiting and rng.random() < 0.5:
            which, span = waiting.pop(int(rng.integers(len(waiting))))
            place = int(rng.integers(len(parts) + 1)) if not marks or marks[0][1] >= 0 else len(parts)
            marks = [(at + (at >= place), group) for at, group in marks] + [(place, which)]
            parts.insert(place, span)
        sizes = np.cumsum([0, *(len(part.encode()) + 1 for part in parts)])
        for place, group in marks:
            copy = (len(documents), int(sizes[place]), int(sizes[place + 1]) - 1)
            (headers if group < 0 else planted[group]).append(copy)
        documents.append(" ".join(parts).encode())
        held += len(documents[-1])
    documents += [b"a" * 100_000, b"ab" * 50_000, b"a" * 100_000, b"-=" * 30 + b"a" * 5_000]
    return documents, [*(copies for copies in planted if len(copies) > 1), headers]


def made(options: argparse.Namespace, folder: Path) -> tuple[list[str], Planted, int, float]:
    """The corpus as Parquet files; what was planted, how many documents, megabytes."""
    rng = np.random.default_rng(options.seed)
    documents, planted = corpus(pieces_of(options.text), options.megabytes * 1_000_000, rng)
    size = sum(len(document) for document in documents) / 1e6
    return written(documents, options.parts, folder), planted, len(documents), size


def written(documents: list[bytes], parts: int, folder: Path) -> list[str]:
    """The documents as Parquet files."""
    paths = []
    for part, (low, high) in enumerate(pairwise(len(documents) * number // parts for number in range(parts + 1))):
        paths.append(str(folder / f"part-{part:05d}.parquet"))
        ids = pa.array([f"{number:09d}" for number in range(low, high)])
        texts = pa.array(documents[low:high], pa.binary()).cast(pa.string())
        pq.write_table(pa.table({"id": ids, "text": texts}), paths[-1], row_group_size=2000, compression="zstd")
    return paths


def ours(parameters: dict[str, Any], paths: list[str], folder: Path) -> tuple[list[pa.Table], dict[str, Any]]:
    """States of all parts, and the figures."""
    exchanging.WHOLE_BYTES = -1
    path = "curate.dedup.substrings:DuplicateSubstrings"
    spec = StepSpec(name="duplicate_substrings", path=path, parameters=json.dumps(parameters), where="benchmark")
    folder.mkdir()
    jobs = [
        PartJob(stage="substrings", folder=str(folder), part=part, steps=(spec,), parent=parent)
        for part, parent in enumerate(paths)
    ]
    stage = type("Stage", (), {"label": "substrings", "steps": (spec,)})()
    finish = Alone()
    applied, summary = exchange_jobs(stage, folder, jobs, finish)
    began = time.process_time()
    states = [open_state(job) for job in applied]
    figures = {
        "jobs": finish.figures(),
        "cpu_seconds": round(sum(finish.seconds.values()) + time.process_time() - began, 1),
        "peak_MB": round(max(finish.own.values())),
        "summary": {name: value for name, value in summary.items() if name != "longest"},
        "written_bytes": {
            kind: sum(path.stat().st_size for path in folder.glob(f"{kind}-*.arrow"))
            for kind in ("partial", *DuplicateSubstrings(**parameters).tables())
        },
    }
    return states, figures


def spans_of(states: list[pa.Table]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Document, first byte and end of each cut, in order."""
    counts = np.concatenate([pc.list_value_length(state.column("starts")).to_numpy() for state in states])
    edges = [
        np.concatenate([state.column(name).combine_chunks().flatten().to_numpy() for state in states])
        for name in ("starts", "stops")
    ]
    return np.repeat(np.arange(len(counts)), counts), edges[0], edges[1]


def missed(planted: Planted, spans: np.ndarray) -> int:
    """Copies of planted spans that are not cut whole, beyond the one of each that stays."""
    document, start, stop = spans
    key = document * (1 << 40) + start
    found = 0
    for copies in planted:
        at = np.array(copies)
        place = np.searchsorted(key, at[:, 0] * (1 << 40) + at[:, 1], side="right") - 1
        whole = (place >= 0) & (document[place] == at[:, 0]) & (stop[place] >= at[:, 2])
        found += max(int((~whole).sum()) - 1, 0)
    return found


def theirs(paths: list[str], length: int) -> tuple[np.ndarray, dict[str, float]]:
    """Document, first byte and end of each span that stands before it too, by a suffix array; seconds of each step."""
    from pydivsufsort import divsufsort, kasai

    texts = pa.concat_arrays([pq.read_table(path).column("text").combine_chunks() for path in paths]).cast(pa.binary())
    edges = np.concatenate(([0], np.cumsum(pc.binary_length(texts).to_numpy().astype(np.int64) + 1)))
    text = np.frombuffer(bytearray(bytes([SEPARATOR]).join(texts.to_pylist())), dtype=np.uint8)
    del texts
    clock = [time.process_time()]
    order = divsufsort(text)
    clock.append(time.process_time())
    common = kasai(text, order) >= length
    clock.append(time.process_time())
    common[-1] = False
    some = common.copy()
    some[1:] |= common[:-1]
    # One after the other, those that share a window: the first of each group is the copy that stays.
    place = order[some].astype(np.int64)
    begins = np.flatnonzero(~np.concatenate(([False], common[:-1]))[some])
    least = np.repeat(np.minimum.reduceat(place, begins), np.diff(np.append(begins, len(place))))
    document = np.searchsorted(edges, place, side="right") - 1
    inside = place + length < edges[document + 1]
    apart = (least < edges[document]) | (place >= least + length)
    dropped = np.sort(place[inside & apart])
    document = np.searchsorted(edges, dropped, side="right") - 1
    first = np.flatnonzero(
        np.concatenate(([True], (np.diff(dropped) > length) | (np.diff(document) > 0)))
        if len(dropped)
        else np.zeros(0, dtype=bool)
    )
    start, stop = dropped[first], dropped[np.append(first[1:], len(dropped)) - 1] + length
    for _ in range(3):
        start += (text[start] & 0xC0) == 0x80
        stop -= ((text[np.minimum(stop, len(text) - 1)] & 0xC0) == 0x80) & (stop < len(text))
    base = edges[document[first]]
    clock.append(time.process_time())
    seconds = dict(zip(("suffix_array", "common_prefixes", "spans"), np.diff(clock).round(1).tolist(), strict=True))
    return np.stack([document[first], start - base, stop - base]), seconds


def warm(parameters: dict[str, Any]) -> None:
    """Compile what the jobs call."""
    rows = [{"id": str(number), "text": "word " * 200 + str(number)} for number in range(4)]
    DuplicateSubstrings(**parameters).process(Batch(pa.RecordBatch.from_pylist(rows)))


def main() -> None:
    """Run all, print and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="folder of Parquet files with a column `text`")
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--parts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without-peer", action="store_true")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("substrings.json"))
    options = parser.parse_args()
    pa.set_cpu_count(1)
    result: dict[str, Any] = {
        "what": "exact substrings: spans planted in recombined real text, ours and a suffix array",
        "seed": options.seed,
        "range_MB": exchanging.RANGE_BYTES >> 20,
        "parts": options.parts,
        "versions": {name: version(name) for name in ("numpy", "pyarrow", "numba", "pydivsufsort")},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": [round(load, 1) for load in os.getloadavg()],
    }
    modes = {"bytes 100": {"length": 100, "keep": "first"}, "words 50": {"unit": "words", "length": 50}}
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        # This process never holds the text: what it had freed would hide the memory of its jobs.
        (paths, planted, documents, size), _, _, _ = in_process(lambda folder: made(options, folder), Path(name))
        result |= {
            "megabytes": round(size, 1),
            "documents": documents,
            "planted_spans": len(planted),
            "planted_copies": sum(len(copies) for copies in planted),
        }
        found: dict[str, np.ndarray] = {}
        for mode, parameters in modes.items():
            warm(parameters)
            states, figures = ours(parameters, paths, Path(name) / mode.replace(" ", "-"))
            found[mode] = np.stack(spans_of(states))
            figures["missed_copies"] = missed(planted, found[mode])
            figures["MB_a_second"] = round(size / figures["cpu_seconds"], 1)
            noted(mode, figures, result, options.out)
        if not options.without_peer:
            (spans, seconds), own, _, cpu = in_process(lambda length: theirs(paths, length), 100)
            figures = {
                "cpu_seconds": round(cpu, 1),
                "steps": seconds,
                "peak_MB": round(own),
                "MB_a_second": round(size / cpu, 1),
                "spans": spans.shape[1],
                "same_spans_as_ours": bool(np.array_equal(spans, found["bytes 100"])),
            }
            noted("suffix array", figures, result, options.out)


def noted(what: str, figures: dict[str, Any], result: dict[str, Any], out: Path) -> None:
    """Print figures and store all that are known."""
    print(what, json.dumps(figures, indent=1), flush=True)
    result |= {what: figures, "load_after": [round(load, 1) for load in os.getloadavg()]}
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
