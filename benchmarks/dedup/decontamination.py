"""Decontamination: known items found, flags on text that holds none, and speed beside two peers.

    python benchmarks/dedup/decontamination.py --data ../shared/data --out benchmarks/dedup/decontamination.json

Known items are counted by plain Python on sets of strings: items of which the prompt shares 13 words (`\\w+`, in lower
case) in a row with a document. Of the flags, `decontamination_reading.csv` has the verdicts of a reader of passages and
items (held: the item's own text; quotation: of a famous text, which the item quotes, too; phrase: a turn or a name that
says nothing); `--flags FILE` writes what there is to read. CPU seconds of one process, best of five (peers: once, on
fewer documents); MB = 10^6 bytes of UTF-8, text in Arrow. datatrove gets a few items only, as its word splitter is
slow; its look-up takes as long with more.
"""

import argparse
import csv
import json
import os
import platform
import random
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontFilter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig, ngrams, simplify_text

from curate.dedup.decontamination import Decontaminate
from curate.dedup.decontamination_index import load_index
from curate.dedup.decontamination_items import load_items
from curate.documents import Batch
from curate.kernels.ngram_index import find_ngrams

HOLDING = {
    "sci_abstracts": ("pubmed_qa_labeled",),
    "wiki_en": ("boolq",),
    "textbooks": ("boolq",),
    "instruct": ("gsm8k_test_orig",),
}
"""Texts with known items, and of which benchmark."""
CLEAN = (
    "books",
    "docs_peps",
    "laws_de",
    "docs_misc",
    "docs_powershell_versions",
    "factbook",
    "code_python",
    "multi_osguide",
    "dialogue_self",
    "news_reuters",
    "qa_stackexchange",
    "wiki_fr",
    "wiki_es",
)
"""Texts that hold none."""
TIMED = ("books", "textbooks", "qa_stackexchange", "wiki_en")
READ = 100
_WORD = re.compile(r"\w+")


def texts_of(data: Path, name: str) -> Batch:
    """The documents of one kind, as one batch."""
    table = pq.read_table(data / "text" / f"{name}.parquet", columns=["id", "text"]).combine_chunks()
    return Batch(table.to_batches()[0])


def seconds(work: Callable[[], Any], *, times: int = 5) -> float:
    """CPU seconds of the fastest of some calls."""
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def plain_ngrams(text: str, n: int) -> set[str]:
    """As strings."""
    words = _WORD.findall(text.lower())
    return {" ".join(words[place : place + n]) for place in range(len(words) - n + 1)}


def known(data: Path, name: str, benchmarks: Iterable[str], n: int) -> set[tuple[str, str]]:
    """Benchmark and id of the items of which the prompt shares n words in a row with one of the documents."""
    rows = pq.read_table(data / "bench" / "benchmarks.parquet", columns=["task", "idx", "query"]).to_pylist()
    of_item = {
        (row["task"], str(row["idx"])): plain_ngrams(row["query"], n) for row in rows if row["task"] in benchmarks
    }
    wanted = set().union(*of_item.values())
    held: set[str] = set()
    for text in texts_of(data, name).texts.to_pylist():
        held |= plain_ngrams(text, n) & wanted
    return {item for item, own in of_item.items() if own & held}


def found_in(step: Decontaminate, batch: Batch) -> tuple[set[tuple[str, str]], pa.Table]:
    """Items found in one kind of text alone, and the state of the documents that were flagged."""
    state = step.reduce([step.map(iter([batch]))])
    items = {
        (benchmark, one["item"])
        for benchmark, told in state.summary["benchmarks"].items()
        for one in told["found_items"]
    }
    told = state.parts[0]
    return items, told.filter(told["benchmark"].is_valid())


def quality(data: Path, n: int, flags: list[dict[str, Any]]) -> dict[str, Any]:
    """Recall of known items, and flags on texts that hold none."""
    step = Decontaminate(benchmarks=str(data / "bench" / "benchmarks.parquet"), ngram=n)
    told: dict[str, Any] = {"ngram": n, "min_ngrams": step.least_ngrams, "known": {}, "clean": {}}
    for name in (*HOLDING, *CLEAN):
        batch = texts_of(data, name)
        items, flagged = found_in(step, batch)
        texts = dict(zip(batch.ids.to_pylist(), batch.texts.to_pylist(), strict=True))
        flags += [{"text": name, "ngram": n, "whole": texts[row["id"]], **row} for row in flagged.to_pylist()]
        if name in HOLDING:
            wanted = known(data, name, HOLDING[name], 13)
            told["known"][name] = {"items": len(wanted), "found": len(wanted & items), "flagged": flagged.num_rows}
        else:
            told["clean"][name] = {"documents": len(batch), "flagged": flagged.num_rows}
    clean = told["clean"].values()
    documents, flagged_clean = (sum(each[key] for each in clean) for key in ("documents", "flagged"))
    known_items, found = (sum(each[key] for each in told["known"].values()) for key in ("items", "found"))
    told["recall"] = round(found / known_items, 4)
    told["clean_documents"], told["clean_flagged"] = documents, flagged_clean
    told["share_of_clean_documents_flagged"] = round(flagged_clean / documents, 6)
    return told


def to_read(flags: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """READ flags of 13-grams: all but those of PubMedQA, and some of these by seed."""
    rare = [flag for flag in flags if flag["ngram"] == 13 and flag["benchmark"] != "pubmed_qa_labeled"]
    many = [flag for flag in flags if flag["ngram"] == 13 and flag["benchmark"] == "pubmed_qa_labeled"]
    return rare + random.Random(seed).sample(many, READ - len(rare))


def write_flags(flags: list[dict[str, Any]], path: Path) -> None:
    """What a person reads: the passages."""
    with path.open("w") as out:
        for flag in flags:
            whole = flag.pop("whole").encode()
            spans = zip(flag.pop("starts"), flag.pop("ends"), strict=True)
            out.write(json.dumps(flag | {"passages": [whole[low:high].decode() for low, high in spans]}) + "\n")


def speed(data: Path) -> dict[str, Any]:
    """MB/s of the look-up and of the whole map, and of the peers on the same text."""
    step = Decontaminate(benchmarks=str(data / "bench" / "benchmarks.parquet"))
    load_index.cache_clear()
    start = time.process_time()
    index = step.index()
    building = time.process_time() - start
    batches = [texts_of(data, name) for name in TIMED]
    size = sum(batch.nbytes for batch in batches) / 1e6
    step.map(iter([Batch(batches[0].data.slice(0, 1))]))  # compiled
    kernel = seconds(lambda: [find_ngrams(batch.texts, index.table) for batch in batches])
    mapped = seconds(lambda: step.map(iter(batches)))
    generator = random.Random(0)
    some = [text for batch in batches for text in generator.sample(batch.texts.to_pylist(), 60)]
    some_size = sum(len(text.encode()) for text in some) / 1e6
    items = load_items([data / "bench" / "benchmarks.parquet"], {})
    of_set = set().union(*(plain_ngrams(f"{item.prompt} {item.answer}", 13) for item in items))
    plain = seconds(lambda: [any(gram in of_set for gram in plain_ngrams(text, 13)) for text in some], times=1)
    asked = {name for names in HOLDING.values() for name in names}
    theirs, their_size = _datatrove(some[:60], [item.prompt for item in items if item.benchmark in asked][:300])
    rates = {
        "ours, look-up": size / kernel,
        "ours, map": size / mapped,
        "Python set of n-grams": some_size / plain,
        "datatrove NGramsDecontFilter (13-grams)": their_size / theirs,
    }
    return {
        "text_mb": round(size, 1),
        "index": {
            "items": len(index.items),
            "ngrams": len(index.table.grams),
            "table_mb": round(index.table.nbytes / 1e6, 1),
            "cpu_seconds": round(building, 2),
        },
        "mb_per_second": {name: round(rate, 3 if rate < 1 else 1) for name, rate in rates.items()},
        "times_as_fast": {
            "Python set of n-grams": round(rates["ours, map"] / rates["Python set of n-grams"]),
            "datatrove": round(rates["ours, map"] / rates["datatrove NGramsDecontFilter (13-grams)"]),
        },
    }


def _datatrove(texts: list[str], prompts: list[str]) -> tuple[float, float]:
    """CPU seconds and MB of datatrove's filter, with an index that its own functions made."""
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig

    # Its default, xxhash, does not take text any more; with either hash nearly all time goes into finding words.
    config = NGramsDecontConfig(n_grams=13, hash_config=HashConfig(hash_fc="sha1"))
    with tempfile.TemporaryDirectory() as folder:
        step = NGramsDecontFilter(folder, config)
        tokens = (step.tokenizer.word_tokenize(simplify_text(prompt, TextNormConfig())) for prompt in prompts)
        hashes = {step.hash_func(" ".join(gram)) for own in tokens for gram in ngrams(own, 13)}
        np.array(list(hashes), dtype=config.hash_config.np_descr).tofile(Path(folder) / "all.index.hashes")
        documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
        step.filter(documents[0])
        taken = seconds(lambda: [step.filter(document) for document in documents], times=1)
    return taken, sum(len(text.encode()) for text in texts) / 1e6


def readings(path: Path) -> dict[str, Any]:
    """What the person who read the flags said."""
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    by_text: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_text[row["text"]][row["verdict"]] += 1
    verdicts = Counter(row["verdict"] for row in rows)
    return {
        "read": len(rows),
        "verdicts": dict(verdicts),
        "by_text": {name: dict(each) for name, each in by_text.items()},
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flags", type=Path, default=None, help="write the flags that are to be read, as JSON lines")
    options = parser.parse_args()
    load_before = os.getloadavg()
    flags: list[dict[str, Any]] = []
    result: dict[str, Any] = {"quality": [quality(options.data, n, flags) for n in (13, 8)]}
    if options.flags:
        write_flags(to_read(flags, options.seed), options.flags)
    reading = Path(__file__).with_name("decontamination_reading.csv")
    if reading.exists():
        result["reading"] = readings(reading)
    result["speed"] = speed(options.data)
    result["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": load_before,
        "load_after": os.getloadavg(),
        "python": platform.python_version(),
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
    }
    result["seed"] = options.seed
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
