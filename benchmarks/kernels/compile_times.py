"""What the first call of each group of kernels costs: compiling in a cold environment, and loading from the cache.

    python benchmarks/kernels/compile_times.py --out benchmarks/kernels/compile_times.json

Each group runs in a process of its own, first with an empty cache folder, then again with the folder that the first
run left. CPU seconds of one process with one thread: importing, the first call, and the next call of the same work,
which is what a call takes. What a group needs of another one (most need the index) is compiled before and not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

TEXT = (
    "It was, as they say, a day in March 2024: rain at 10:30, and nobody’s hat stayed dry (see p. 4).\nRead more...\n"
)
TEXTS = [TEXT * 3, "Où est-il allé ? Write to someone@company.org or call +44 20 7946 0958.\n\n" + TEXT, ""]


def _index() -> Callable[[], object]:
    import pyarrow as pa

    from curate.kernels.text_index import TextIndex

    texts = pa.array(TEXTS)
    return lambda: TextIndex.of(texts)


def _family(*names: str) -> Callable[[], object]:
    from curate.kernels import quality

    index: object = _index()()
    return lambda: [getattr(quality, name)(index) for name in names]


_FOUR = ("gopher_quality", "gopher_repetition", "c4_lines", "fineweb_quality")


def _four_families() -> Callable[[], object]:
    from curate.kernels import quality

    index: Callable[[], object] = _index()

    def work() -> object:
        found = index()
        return [getattr(quality, name)(found) for name in _FOUR]

    return work


def _language() -> Callable[[], object]:
    import pyarrow as pa

    from curate.kernels import fasttext, fasttext_loss  # noqa: F401  imported on the first call otherwise
    from curate.models import fasttext_file  # noqa: F401
    from curate.models.fasttext import LANGUAGE_MODEL, Classifier

    texts = pa.array(TEXTS)
    return lambda: Classifier(LANGUAGE_MODEL).best(texts)


def _pii() -> Callable[[], object]:
    import numpy as np
    import pyarrow as pa

    from curate.kernels.pii import KINDS, find_pii, replace_findings

    texts = pa.array(TEXTS)
    turn = np.zeros(len(texts), dtype=np.uint64)
    return lambda: replace_findings(texts, find_pii(texts), {kind: [f"<{kind}>"] for kind in KINDS}, turn=turn)


def _line_edits() -> Callable[[], object]:
    from curate.filters.refinedweb import RefinedWeb
    from curate.kernels.line_edits import edit_lines

    rules, index = RefinedWeb(), _index()()
    return lambda: edit_lines(
        index,  # type: ignore[arg-type]
        max_uppercase=rules.max_uppercase or -1,
        max_numeric=rules.max_numeric or -1,
        counters=rules.counters,
        min_words=rules.min_words or -1,
        max_phrase_words=rules.max_phrase_words,
        anywhere=rules.phrases_anywhere,
        at_end=rules.phrases_at_end,
        at_start=rules.phrases_at_start,
    )


def _split_words() -> Callable[[], object]:
    from curate.kernels.split_words import split_words

    index = _index()()
    return lambda: split_words(index, stop_words=("the", "of"))  # type: ignore[arg-type]


def _url() -> Callable[[], object]:
    import pyarrow as pa

    from curate.kernels.url import UrlWords, hash_table, measure_urls, read_lines

    urls = pa.array(["https://www.example.org/a/b.html?c=d", None])

    def work() -> object:
        table, _ = hash_table(read_lines(b"example.com\n0.0.0.0 example.net\nexample.org/a\n")[1])
        words = UrlWords.of(hard=[b"casino"], soft=[b"bet"], strict=[b"xxx"])
        return measure_urls(urls, domains=table, pages=table, words=words)

    return work


def _phrases() -> Callable[[], object]:
    import pyarrow as pa

    from curate.kernels.phrases import Trie, count_phrases

    texts = pa.array(TEXTS)
    return lambda: count_phrases(texts, Trie.of(["read more", "hat"]), whole_words=True)


def _spaceless() -> Callable[[], object]:
    from curate.kernels.spaceless import spaceless

    index = _index()()
    return lambda: spaceless(index, runs=("的", "了"))  # type: ignore[arg-type]


def _minhash() -> Callable[[], object]:
    import pyarrow as pa

    from curate.kernels.minhash import HashFunctions, band_keys, sketches

    texts, functions = pa.array(TEXTS), HashFunctions.of(112, seed=0)
    return lambda: band_keys(sketches(texts, 5, functions=functions, sets=True).minima, 14, 8)


GROUPS: dict[str, Callable[[], Callable[[], object]]] = {
    "index": _index,
    "Gopher quality": lambda: _family("gopher_quality"),
    "Gopher repetition": lambda: _family("gopher_repetition"),
    "C4 edit": lambda: _family("c4_lines"),
    "FineWeb's own": lambda: _family("fineweb_quality"),
    "index, four families": _four_families,
    "language": _language,
    "personal data": _pii,
    "RefinedWeb's line edits": _line_edits,
    "DCLM's quality": _split_words,
    "URL": _url,
    "bad words": _phrases,
    "scripts without spaces": _spaceless,
    "MinHash": _minhash,
}


def child(group: str) -> dict[str, float]:
    """CPU seconds of importing (Python's own start included), the first call, the next one."""
    import numba.core.dispatcher  # noqa: F401  not imported by all groups alike

    work = GROUPS[group]()
    prepared = time.process_time()
    work()
    first = time.process_time()
    work()
    return {
        "prepare": round(prepared, 3),
        "first": round(first - prepared, 3),
        "next": round(time.process_time() - first, 4),
    }


def run(group: str, cache: Path) -> dict[str, float]:
    """One group in a process of its own."""
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(cache),
        **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "NUMBA")},
    }
    command = [sys.executable, __file__, "--child", group]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="*", default=list(GROUPS), choices=list(GROUPS), metavar="GROUP")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("compile_times.json"))
    parser.add_argument("--child", choices=list(GROUPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(child(arguments.child)))
        return

    groups: dict[str, dict[str, float]] = {}
    print(f"{'CPU seconds':26}{'compiling':>10}{'from cache':>12}{'a call':>10}{'load':>8}")
    for group in arguments.groups:
        with tempfile.TemporaryDirectory() as cache:
            cold, cached = run(group, Path(cache)), run(group, Path(cache))
        groups[group] = {
            "compiling_s": round(cold["first"], 2),
            "from_cache_s": round(cached["first"], 3),
            "import_and_prepare_from_cache_s": round(cached["prepare"], 2),
            "a_call_s": cached["next"],
            "load_average": round(os.getloadavg()[0], 1),
        }
        row = groups[group]
        print(f"{group:26}{row['compiling_s']:10.2f}{row['from_cache_s']:12.3f}{row['a_call_s']:10.4f}", end="")
        print(f"{row['load_average']:8.1f}", flush=True)
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("numba", "llvmlite", "numpy")},
        "CPU_seconds": groups,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
