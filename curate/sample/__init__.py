"""The data that ships with the package: a sample crawl, held-out text, positives of the quality classifier, the truth.

    crawl/sample-0000{0..7}.warc.gz   WARC 1.0, one gzip member a record
    heldout/{prose,reference,technical}.parquet   id, text, title, url, source, license; no word 13-gram of the crawl
    positives.parquet                 the same columns; good text that is neither in the crawl nor held out
    truth.parquet                     record_id, url, shard, kind, detail, origin, license of every response
    NOTICE                            sources and licences

Made by `examples/make_sample.py`. The functions give real file system paths.
"""

from importlib.resources import files
from pathlib import Path

from curate.errors import InputError


def _path(*parts: str) -> Path:
    path = Path(str(files(__name__).joinpath(*parts)))
    if not path.exists():
        raise InputError(
            f"{path}: the sample data is missing; reinstall curate, or run `python -m examples.make_sample`."
        )
    return path


def crawl() -> list[Path]:
    """The WARC files of the sample crawl, sorted by name."""
    return sorted(_path("crawl").glob("*.warc.gz"))


def crawl_folder() -> Path:
    """The folder of the WARC files."""
    return _path("crawl")


def heldout() -> dict[str, Path]:
    """Held-out Parquet tables by kind: prose, reference, technical."""
    return {path.stem: path for path in sorted(_path("heldout").glob("*.parquet"))}


def positives() -> Path:
    """Parquet table of positives for the quality classifier."""
    return _path("positives.parquet")


def truth() -> Path:
    """Parquet table that says what each record of the crawl is."""
    return _path("truth.parquet")


def study() -> Path:
    """The study that `curate demo` runs, beside its three recipes."""
    return _path("study.yaml")


def notice() -> Path:
    """Sources, licences and attributions."""
    return _path("NOTICE")


CRAWL = crawl
HELDOUT = heldout
POSITIVES = positives
