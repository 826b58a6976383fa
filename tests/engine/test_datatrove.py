"""Our pipelines are datatrove pipelines: its blocks stand in our recipes, our steps in its executors."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import GopherQualityFilter
from datatrove.pipeline.readers import ParquetReader

from curate.documents import EXTRA, Batch, BatchStream, from_documents, to_documents
from curate.engine.executors import executor_for
from curate.engine.recipe import load_recipe
from curate.engine.run import Engine
from curate.errors import StageError

Write = Callable[..., Path]


def test_a_plain_datatrove_filter_stands_in_a_recipe(recipe: Write, corpus: Path, tmp_path: Path) -> None:
    path = recipe("datatrove.pipeline.filters.GopherQualityFilter: {min_doc_words: 60}", "own_steps.Shout")
    dataset = Engine(tmp_path / "work", executor_for(1)).run(load_recipe(path))
    kept = [key for part in dataset.parts for key in pq.read_table(part)["id"].to_pylist()]
    plain = GopherQualityFilter(min_doc_words=60)
    documents = [
        Document(text=row["text"], id=row["id"])
        for file in sorted(corpus.iterdir())
        for row in pq.read_table(file).to_pylist()
    ]
    assert kept == [document.id for document in plain.run(iter(documents))]
    rules = dataset.funnel[1]["rules"]
    assert rules == {"GopherQualityFilter.gopher_short_doc": 240 - len(kept)}


def test_a_block_that_makes_documents_is_refused(recipe: Write, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="returned documents that it did not receive"):
        Engine(tmp_path / "work", executor_for(1)).run(load_recipe(recipe("own_steps.Doubles")))


def test_our_steps_stand_in_a_datatrove_executor(corpus: Path, tmp_path: Path) -> None:
    from own_steps import MinChars, Shout  # type: ignore[import-not-found]

    from curate.filters.gopher import GopherQuality

    seen: list[Document] = []

    def collect(data, rank: int = 0, world_size: int = 1):  # type: ignore[no-untyped-def]
        for document in data:
            seen.append(document)
            yield document

    plain = GopherQualityFilter(min_doc_words=60)
    executor = LocalPipelineExecutor(
        pipeline=[ParquetReader(str(corpus)), MinChars(chars=50), plain, GopherQuality(), Shout(), collect],
        logging_dir=str(tmp_path / "logs"),
    )
    executor.run()
    assert 0 < len(seen) < 240
    assert all(document.text == document.text.upper() for document in seen)
    assert all(document.metadata["url"].startswith("https://example.org/") for document in seen)


def test_documents_survive_the_bridge_with_their_metadata() -> None:
    documents = [
        Document(text="one", id="1", metadata={"url": "u", "list": [1, 2], "score": 0.5}),
        Document(text="two", id="2", metadata={"date": None, "name": "ü\x00"}),
    ]
    (batch,) = from_documents(documents)
    assert batch.data.schema.field(EXTRA).type == pa.string()
    back = list(to_documents(batch))
    assert back[0].metadata == {"url": "u", "list": [1, 2], "score": 0.5}
    assert back[1].metadata == {"name": "ü\x00"}
    assert [document.text for document in back] == ["one", "two"]


def test_a_stream_gives_batches_to_us_and_documents_to_datatrove() -> None:
    batches = list(from_documents([Document(text="one", id="1")]))
    assert isinstance(next(BatchStream(batches).batches()), Batch)
    assert isinstance(next(iter(BatchStream(batches))), Document)
