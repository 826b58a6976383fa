"""Do our Gopher quality rules decide as datatrove's where no spaces are written? Chinese and Japanese, by profile.

    python benchmarks/filters/spaceless_agreement.py TEXT.parquet... --out benchmarks/filters/spaceless_agreement.json

Files have the columns `text` (or `main_text`) and `lang`. Texts are cut after lines into pieces of about 1,500
characters and judged as they are and without their markup (HTML, Markdown, URLs): dictionary tokenizers (jieba,
sudachipy with sudachidict-core, installed by hand) cut at every mark, and many a decision hangs on the share of words
with a letter. Both sides have the profile's numbers.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.documents import Batch
from curate.filters.gopher import GopherQuality
from curate.filters.language_profiles import profile_named

PIECE_CHARACTERS = 1_500
LONGEST_PIECE = 8_000
SHORTEST_PIECE = 100
LANGUAGES = {"zh": {"zh", "zh-hans", "zh-hant"}, "ja": {"ja"}}
MARKUP = re.compile(r"<[^>]*>|\]\([^)]*\)|https?://\S+|[*_#`>\[\]|]")


def pieces(files: list[Path], languages: set[str]) -> Iterator[str]:
    """Pieces of the texts in some languages."""
    for file in files:
        table = pq.read_table(file)
        column = "text" if "text" in table.column_names else "main_text"
        for text, language in zip(table[column].to_pylist(), table["lang"].to_pylist(), strict=True):
            start = 0
            while text and language in languages and start < len(text):
                end = text.find("\n", start + PIECE_CHARACTERS) + 1 or len(text)
                yield text[start : min(end, start + LONGEST_PIECE)]
                start = end


def datatrove_reasons(texts: list[str], language: str) -> list[str | None]:
    """datatrove's reason for each text (None: stays), its words being those of its tokenizer for the language."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherQualityFilter, gopher_quality_filter
    from datatrove.utils.word_tokenizers import SpaCyTokenizer

    tokenizer = SpaCyTokenizer(language)
    gopher_quality_filter.split_into_words = lambda text, _: tokenizer.word_tokenize(text)
    numbers = profile_named(language).parameters("gopher_quality")
    block = GopherQualityFilter(
        min_avg_word_length=numbers["min_mean_word_length"],
        max_avg_word_length=numbers["max_mean_word_length"],
        max_non_alpha_words_ratio=numbers["min_alphabetic_words"],
        stop_words=numbers["stop_words"],
    )
    results = [block.filter(Document(text=text, id="")) for text in texts]
    return [result[1] if isinstance(result, tuple) else None for result in results]


def our_rules(texts: list[str], language: str) -> list[str | None]:
    """The rule that drops each text (None: stays)."""
    ids = pa.array([str(row) for row in range(len(texts))])
    outcome = GopherQuality(profile=language).process(Batch(pa.record_batch({"id": ids, "text": pa.array(texts)})))
    rules: list[str | None] = [None] * len(texts)
    for row, rule in zip(outcome.left["row"].to_pylist(), outcome.left["rule"].to_pylist(), strict=True):
        rules[row] = rule
    return rules


def main() -> None:
    """Judge, compare, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("spaceless_agreement.json"))
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for language, labels in LANGUAGES.items():
        raw = list(pieces(options.files, labels))
        for form, texts in (("as it is", raw), ("without markup", [MARKUP.sub("", text) for text in raw])):
            texts = [text for text in texts if len(text) > SHORTEST_PIECE]
            both = list(zip(our_rules(texts, language), datatrove_reasons(texts, language), strict=True))
            different = [pair for pair in both if (pair[0] is None) != (pair[1] is None)]
            found[f"{language}, {form}"] = {
                "pieces": len(texts),
                "same decision": round(1 - len(different) / max(1, len(texts)), 4),
                "dropped by datatrove": sum(theirs is not None for _, theirs in both),
                "differences": {
                    f"ours: {ours}, datatrove: {theirs}": n for (ours, theirs), n in Counter(different).items()
                },
            }
            print(f"{language}, {form}: {found[f'{language}, {form}']}")
    result = {
        "versions": {name: version(name) for name in ("datatrove", "jieba", "sudachipy", "sudachidict-core")},
        "files": [file.name for file in options.files],
        **found,
    }
    options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
