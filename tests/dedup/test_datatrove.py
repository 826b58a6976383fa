"""Deduplication steps in a plain datatrove pipeline."""

from pathlib import Path

import pytest
from datatrove.data import Document, DocumentsPipeline
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import LambdaFilter

from curate.dedup.exact import Exact
from curate.dedup.minhash import MinHash

WORDS = [f"{a}{b}{c}" for a in "bdfg" for b in "aeiou" for c in "lmnr"]
TEXT = " ".join(WORDS)


class Source(PipelineStep):
    name = "source"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        texts = [TEXT, " ".join(WORDS[::-1]), TEXT + " more", TEXT.upper(), "short", "Short"]
        for number, text in enumerate(texts):
            yield Document(text=text, id=f"doc{number}", metadata={"lang": "en"})


class Sink(PipelineStep):
    name = "sink"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with self.path.open("w") as file:
            for document in data:
                file.write(f"{document.id} {document.metadata}\n")
                yield document


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (MinHash(keep="longest"), {"doc2": 3, "doc1": 1, "doc4": 2}),
        (Exact(), {"doc0": 2, "doc1": 1, "doc2": 1, "doc4": 2}),
    ],
)
def test_a_datatrove_executor_runs_the_step_between_its_own(tmp_path: Path, step: PipelineStep, kept: dict) -> None:
    steps = [Source(), step, LambdaFilter(lambda document: True), Sink(tmp_path / "out")]
    LocalPipelineExecutor(pipeline=steps, tasks=1, logging_dir=str(tmp_path / "logs")).run()
    lines = dict(line.split(" ", 1) for line in (tmp_path / "out").read_text().splitlines())
    assert set(lines) == set(kept)
    for name, size in kept.items():
        assert f"'{step.name}.cluster_size': {size}" in lines[name]
        assert "'lang': 'en'" in lines[name]
