"""A neutral mixture: equal shares of the tokens of several packed datasets, as one packed dataset.

What is tuned on it favours no contestant. A packed file holds its documents in the order of a seeded hash, so its
first tokens are a random sample; a share ends behind a document. The order of training mixes the shares. Cost: the
tokens are written once.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from curate.errors import InputError
from curate.fingerprints import fingerprint, write_json
from curate.proxy_training.packing import TokenizedDataset, open_packed, same_tokenizer
from curate.proxy_training.spool import token_dtype
from curate.proxy_training.tokenizer import end_of_text, load_tokenizer


def neutral_mixture(datasets: Mapping[str, TokenizedDataset], *, tokens: int, out: Path) -> TokenizedDataset:
    """About `tokens` tokens (fewer where the smallest dataset is short), an equal share of each, packed in `out`.

    A folder that holds this mixture already is opened. Raises MismatchError when tokenizers differ.
    """
    shared_tokenizer = same_tokenizer(datasets)
    ordered = [datasets[name] for name in sorted(datasets, key=lambda name: datasets[name].fingerprint)]
    share = min(-(-tokens // len(ordered)), *(packed.tokens for packed in ordered))
    made = fingerprint(["neutral mixture; v1", [packed.fingerprint for packed in ordered], share])
    if (out / "tokens.json").exists():
        try:
            there = open_packed(out)
            if there.fingerprint == made:
                return there
        except InputError:  # damaged: made again below
            pass
        (out / "tokens.json").unlink()
    tokenizer = load_tokenizer(ordered[0].tokenizer_path)
    end = end_of_text(tokenizer)
    parts = [_share(packed, share, end) for packed in ordered]
    stream = np.concatenate(parts).astype(token_dtype(ordered[0].vocab_size))
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ordered[0].tokenizer_path, out / "tokenizer.json")
    (out / "tokens.bin").write_bytes(stream.tobytes())
    # in a byte-level vocabulary each character of an entry is a byte of text
    entries = [tokenizer.id_to_token(i) or "" for i in range(ordered[0].vocab_size)]
    sizes = np.array([0 if i == end else len(entry) for i, entry in enumerate(entries)])
    write_json(
        out / "tokens.json",
        {
            "name": "neutral mixture of " + ", ".join(sorted(datasets)),
            "tokens": len(stream),
            "documents": int((stream == end).sum()),
            "text_bytes": int(sizes[stream].sum()),
            "vocab_size": ordered[0].vocab_size,
            "dataset_fingerprint": made,
            "tokenizer_fingerprint": shared_tokenizer,
            "fingerprint": made,
            "content": hashlib.blake2b(stream.tobytes(), digest_size=16).hexdigest(),  # as file_fingerprint
        },
    )
    return open_packed(out)


def _share(packed: TokenizedDataset, tokens: int, end: int) -> np.ndarray:
    """The first documents of a packed file, at most `tokens` tokens of them, or a part of the first one."""
    some = np.asarray(packed.stream()[:tokens])
    ends = np.flatnonzero(some == end)
    return some[: ends[-1] + 1] if len(ends) else some
