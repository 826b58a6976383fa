"""The step `extract`: pages to documents, by resiliparse or trafilatura, in a child process that may hang or crash.

PAGE_SCHEMA batches become DOCUMENT_SCHEMA batches in the same order. Charset: byte-order mark, HTTP header, meta
element, detection; wrong bytes become U+FFFD. Text has no controls but tab and newline, and LF newlines; it is not
NFC-normalised, as datatrove's is not. Pages without text leave by `extract.empty`; the others that leave have failed.
"""

import re
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from curate.documents import DOCUMENT_SCHEMA, Batch
from curate.errors import RecipeError
from curate.extract.sandbox import PageError, Sandbox
from curate.steps import LEFT_SCHEMA, STEP_CONFIG, Edit, Outcome

_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:+-]{1,64})", re.IGNORECASE)


@dataclass(kw_only=True, config=ConfigDict(**STEP_CONFIG, populate_by_name=True))
class Extract(Edit):
    """HTML to text. In a recipe: `extract: {with: resiliparse}`."""

    name: ClassVar[str] = "extract"
    version: ClassVar[int] = 1

    engine: Literal["resiliparse", "trafilatura"] = Field(default="resiliparse", alias="with")
    """resiliparse (of DCLM) or trafilatura as datatrove and FineWeb call it; recipes say `with`."""
    main_content: bool = True
    """resiliparse: leave out menus, footers and the like."""
    favor: Literal["precision", "recall", "balanced"] = "precision"
    """trafilatura: when in doubt less text, or more."""
    fallback: bool = True
    """trafilatura: compare with its other extractors where its own finds little (as datatrove does); slower."""
    max_page_bytes: PositiveInt = 4 << 20
    """Larger pages fail: a limit by size is the same everywhere, unlike one by time."""
    time_limit_s: PositiveFloat = 10.0
    """CPU seconds for one page."""

    def __post_init__(self) -> None:
        Edit.__post_init__(self)
        self._sandbox: Sandbox | None = None

    @property
    def libraries(self) -> tuple[str, ...]:
        """Those of the chosen engine; resiliparse detects the charset for both."""
        return ("resiliparse",) if self.engine == "resiliparse" else ("resiliparse", "trafilatura", "lxml", "justext")

    def parameters(self) -> dict[str, Any]:
        """The parameters that matter to the chosen engine, by the names that recipes use."""
        own: dict[str, Any] = {"main_content": self.main_content}
        if self.engine == "trafilatura":
            own = {"favor": self.favor, "fallback": self.fallback}
        limits = {"max_page_bytes": self.max_page_bytes, "time_limit_s": self.time_limit_s}
        return {"with": self.engine} | own | limits

    def process(self, batch: Batch) -> Outcome:
        """The documents of the pages that have text; the others leave."""
        names = batch.data.schema.names
        if "content" not in names:
            hint = "they have `text` already" if "text" in names else "they have no `content`"
            raise RecipeError(f"`extract` makes text of crawled pages, but these are none: {hint}. Take it out.")
        texts: list[str] = []
        kept: list[int] = []
        left: list[dict[str, Any]] = []
        types, contents = batch.data.column("content_type"), batch.data.column("content")
        for row in range(len(batch)):
            content = contents[row].as_py() or b""
            departure = self._extract(content, types[row].as_py(), texts)
            if departure is None:
                kept.append(row)
            else:
                left.append({"row": row} | departure)
        documents = self._documents(batch.data, kept, texts)
        lengths = [len(contents[row].as_buffer()) for row in kept]
        removed = np.array(
            [max(0, length - len(text.encode())) for length, text in zip(lengths, texts, strict=True)], dtype=np.int64
        )
        return Outcome(Batch(documents), pa.RecordBatch.from_pylist(left, schema=LEFT_SCHEMA), edited=removed)

    def close(self) -> None:
        """End the child process; it starts again when it is needed."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def __getstate__(self) -> dict[str, Any]:
        """The step without its child process, so that it can be sent to a worker."""
        return self.__dict__ | {"_sandbox": None}

    def _extract(self, content: bytes, content_type: str | None, texts: list[str]) -> dict[str, Any] | None:
        """Append the page's text and return None, or return why it leaves."""
        if len(content) > self.max_page_bytes:
            error = f"the page has {len(content):,} bytes, more than max_page_bytes = {self.max_page_bytes:,}"
            size, limit = float(len(content)), float(self.max_page_bytes)
            return {"fate": "failed", "rule": "extract.too_large", "value": size, "threshold": limit, "error": error}
        if self._sandbox is None:
            self._sandbox = Sandbox(self.parameters())
        charset = _CHARSET.search(content_type or "")
        try:
            text = self._sandbox.text(content, charset.group(1) if charset else "")
        except PageError as error:
            return {"fate": "failed", "rule": error.rule, "error": str(error)}
        if not text:
            return {"fate": "dropped", "rule": "extract.empty", "value": 0.0, "threshold": 1.0}
        texts.append(text)
        return None

    @staticmethod
    def _documents(pages: pa.RecordBatch, kept: list[int], texts: list[str]) -> pa.RecordBatch:
        rows = pages.take(pa.array(kept, pa.int64()))
        columns = [
            pa.array(texts, pa.string()) if field.name == "text" else rows.column(field.name)
            for field in DOCUMENT_SCHEMA
        ]
        return pa.RecordBatch.from_arrays(columns, schema=DOCUMENT_SCHEMA)


__all__ = ["Extract"]
