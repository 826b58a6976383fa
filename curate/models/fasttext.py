"""fastText classifiers: loading and scoring batches of text (Joulin et al. 2016, arXiv:1607.01759).

A text is one line: newlines become spaces (words are never glued), and the two strings to which fastText's own format
gives a meaning (`</s>` ends a line, `__label__` starts a label) are broken up, here and in training alike. Scores are
fastText's p + 1e-5, clipped to [0, 1] and rounded to 6 decimals before anybody compares them.
Scoring goes through the binding: about 4 MB/s a core with lid.176.ftz, 12 MB/s with a dense bigram model.
"""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import InputError

LABEL = "__label__"
LIBRARY = "fasttext-numpy2-wheel"
"""The distribution that scores and trains; its version enters fingerprints."""
SCORE_DECIMALS = 6
"""Scores are rounded to this many decimals: a threshold must not see the last bits of a float."""

LANGUAGE_MODEL = Path(__file__).parent / "data" / "lid.176.ftz"
"""fastText's language identification, 176 languages, compressed (CC-BY-SA 3.0); ships with the package."""


def as_lines(texts: pa.Array, *, max_chars: int | None = None) -> pa.Array:
    """The texts as fastText reads them, one line each without its end; null is the empty line.

    `max_chars` keeps only the beginning of each text, in code points.
    """
    lines = pc.fill_null(texts, "")
    if max_chars is not None:
        lines = pc.utf8_slice_codeunits(lines, 0, max_chars)
    for found, written in (("\n", " "), ("</s>", "</ s>"), (LABEL, "__label_")):
        lines = pc.replace_substring(lines, found, written)
    return lines


class Classifier:
    """A supervised fastText model. It cannot be pickled: take it from `load_classifier` in each process."""

    def __init__(self, path: Path) -> None:
        """Reads the model; raises InputError if `path` is no supervised fastText model."""
        import fasttext

        self.path = path
        try:
            model = fasttext.load_model(str(path))
            labels = model.get_labels()
        except (ValueError, RuntimeError, MemoryError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a fastText model that can be read ({error}).") from error
        if not labels or not all(label.startswith(LABEL) for label in labels):
            raise InputError(f"{path}: this fastText model has no labels; a supervised model is needed.")
        self._predict = model.f.multilinePredict  # the wrapper would check and copy each line once more
        self.labels = [label.removeprefix(LABEL) for label in labels]

    def best(self, texts: pa.Array, *, max_chars: int | None = None) -> tuple[pa.StringArray, np.ndarray]:
        """The likeliest label of each text, and its score (float64[n])."""
        labels, scores = self._predict(_encoded(texts, max_chars), 1, 0.0, "strict")
        first = pa.array([row[0] if row else None for row in labels], pa.string())
        best = np.fromiter((row[0] if len(row) else 0.0 for row in scores), np.float64, len(scores))
        return pc.replace_substring(first, LABEL, ""), _rounded(best)

    def score(self, texts: pa.Array, label: str, *, max_chars: int | None = None) -> np.ndarray:
        """The score of `label` on each text, float64[n]; raises InputError if the model does not know the label."""
        if label not in self.labels:
            shown = ", ".join(self.labels[:20])
            raise InputError(f"{self.path}: the model has no label {label!r}. Its labels: {shown}.")
        wanted = LABEL + label
        labels, scores = self._predict(_encoded(texts, max_chars), len(self.labels), 0.0, "strict")
        found = (  # labels come by falling score; hierarchical softmax leaves out those it finds impossible
            row[names.index(wanted)] if wanted in names else 0.0 for names, row in zip(labels, scores, strict=True)
        )
        return _rounded(np.fromiter(found, np.float64, len(labels)))


def _encoded(texts: pa.Array, max_chars: int | None) -> list[bytes]:
    # Bytes, not str: the binding takes both, and text from the web need not be valid UTF-8.
    lines = as_lines(texts, max_chars=max_chars)
    ended = pc.binary_join_element_wise(lines, pa.scalar("\n", lines.type), pa.scalar("", lines.type))
    return ended.cast(pa.large_binary() if pa.types.is_large_string(ended.type) else pa.binary()).to_pylist()


def _rounded(scores: np.ndarray) -> np.ndarray:
    return np.round(np.clip(scores, 0.0, 1.0), SCORE_DECIMALS)


_loaded: dict[Path, tuple[tuple[int, int, int], Classifier]] = {}


def load_classifier(path: str | Path) -> Classifier:
    """The model at `path` (a file, or a folder that holds `model.bin`), read once a process.

    A file that was written anew is read anew: size, time of change and inode are compared at each call.
    Raises InputError if there is no such file.
    """
    file = Path(path).resolve()
    if file.is_dir():
        file /= "model.bin"
    try:
        status = os.stat(file)
    except OSError as error:
        raise InputError(
            f"{path}: no fastText model there ({error.strerror}). Give the path of a .bin or .ftz file, "
            "or the name of an artifact of the recipe."
        ) from error
    stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
    if file not in _loaded or _loaded[file][0] != stamp:
        _loaded[file] = (stamp, Classifier(file))
    return _loaded[file][1]
