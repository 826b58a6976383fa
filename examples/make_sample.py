"""Make the data that ships with the package: a sample crawl, held-out text, positives of the quality classifier, truth.

usage: python -m examples.make_sample [--shared ../shared/data] [--out curate/sample] [--seed 7] [--scale 1]

Reads open text (`text/*.parquet` of the data folder, only rows whose licence allows shipping) and writes `crawl/`,
`heldout/`, `positives.parquet`, `truth.parquet`, `NOTICE`. Same sources and seed: same bytes (for one
zlib and pyarrow).
Not needed at run time. How the crawl is made up: `sample/crawl.py`.
"""

import argparse
from collections import Counter
from pathlib import Path

from examples.sample.crawl import CrawlBuilder, fetch, odd_records
from examples.sample.notice import write_notice
from examples.sample.packing import Fetched, pack
from examples.sample.real_pages import real_pages
from examples.sample.sources import digest, load
from examples.sample.tables import heldout_rows, ngrams, page_text, positive_rows, write_rows, write_truth

REPOSITORY = Path(__file__).resolve().parents[1]
SHARDS = 8


def make_sample(shared: Path, out: Path, *, seed: int, scale: float) -> None:
    """Write the sample folder; prints what it holds."""
    pools = load(shared / "text")
    pages = [fetch(entry) for entry in CrawlBuilder(pools, seed=seed, scale=scale).entries()]
    pages += odd_records(seed) + real_pages(shared / "web" / "web_html.parquet")
    pages = sorted({page.url: page for page in pages}.values(), key=lambda page: digest("shard", seed, page.url))

    (out / "crawl").mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        pack(pages[shard::SHARDS], out / "crawl" / f"sample-{shard:05d}.warc.gz", seed=seed)
    write_truth(pages, {page.url: i % SHARDS for i, page in enumerate(pages)}, out / "truth.parquet")

    positives = positive_rows(pools, scale=scale)
    seen = ngrams_of_crawl(pages)
    for row in positives:
        seen |= ngrams(row["text"])
    heldout = heldout_rows(pools, seen, scale=scale)
    write_rows(positives, out / "positives.parquet")
    for kind, rows in heldout.items():
        write_rows(rows, out / "heldout" / f"{kind}.parquet")
    rows = positives + [row for kind in heldout.values() for row in kind]
    (out / "NOTICE").write_text(write_notice(pools, pages, rows), encoding="utf-8")
    report(pages, positives, heldout, out)


def ngrams_of_crawl(pages: list[Fetched]) -> set[int]:
    """All word 13-grams of the crawl, copies and junk included."""
    seen: set[int] = set()
    for page in pages:
        seen |= ngrams(page_text(page))
    return seen


def report(
    pages: list[Fetched], positives: list[dict[str, str]], heldout: dict[str, list[dict[str, str]]], out: Path
) -> None:
    """Print counts and sizes."""
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for page in pages:
        count[page.kind] += 1
        size[page.kind] += len(page.body)
    for kind in count:
        print(f"{kind:10} {count[kind]:6} pages {size[kind] / 1e6:7.2f} MB of HTML")
    for kind, rows in heldout.items():
        print(f"heldout {kind:10} {len(rows):4} rows {sum(len(row['text'].encode()) for row in rows) / 1e3:7.1f} kB")
    print(f"positives {len(positives)} rows {sum(len(row['text'].encode()) for row in positives) / 1e3:.1f} kB")
    files = [path for path in out.rglob("*") if path.suffix in (".gz", ".parquet") or path.name == "NOTICE"]
    for path in sorted(files):
        print(f"{path.relative_to(out)} {path.stat().st_size / 1e3:.0f} kB")
    print(f"together {sum(path.stat().st_size for path in files) / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=REPOSITORY / ".." / "shared" / "data", help="data folder")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "curate" / "sample")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="share of every budget, for tests")
    options = parser.parse_args()
    make_sample(options.shared, options.out, seed=options.seed, scale=options.scale)


if __name__ == "__main__":
    main()
