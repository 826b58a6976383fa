"""How likely a proxy finds a continuation after a context: the one way that choices, answers, lm_eval are scored.

A continuation is tokenised together with its context, so that it reads as in running text, and apart from it where a
token would span the border. What is longer than the model's window loses context from the left, which is counted; a
continuation that is itself longer is scored window by window, as held-out text is. Windows that several continuations
share (answers of one token) are computed once; windows of one length run together, so little is padding. Memory:
`batch_tokens` positions and 64 MB of logits. 120,000 tokens a second on one core at .1M parameters.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from curate.errors import InputError
from curate.proxy_training.evaluation.evaluators import LOGITS_AT_ONCE, as_evaluated
from curate.proxy_training.tokens.tokenizer import encode_documents

if TYPE_CHECKING:
    import torch

    from curate.proxy_training.model import Proxy

BATCH_TOKENS = {"cpu": 2048}
"""Positions at once by kind of device: what stays in a core's cache (8,192 take 1.6 x the time of 2,048)."""
BATCH_TOKENS_ELSEWHERE = 1 << 16

Pair = tuple[list[int], list[int]]
"""Token ids of a context, at least one, and of its continuation, at least one."""


@dataclass(frozen=True)
class Continuations:
    """Continuations to score, as windows of tokens. A piece is a continuation, or a window's part of a long one."""

    windows: tuple[np.ndarray, ...]
    """What the model reads: int64 (at most T,) each; all different."""
    targets: tuple[np.ndarray, ...]
    """Tokens of each piece, int64; they are predicted at the last positions of its window."""
    piece_window: np.ndarray
    """Window of each piece, int64."""
    piece_continuation: np.ndarray
    """Continuation of each piece, int64."""
    tokens: np.ndarray
    """Tokens of each continuation, int64."""
    cut: np.ndarray
    """Tokens of context that each continuation lost, int64."""

    def digest(self) -> str:
        """Hash of all windows and targets."""
        found = hashlib.sha256()
        for arrays in (self.windows, self.targets, (self.piece_window, self.piece_continuation)):
            for array in arrays:
                found.update(len(array).to_bytes(8, "little"))
                found.update(array.tobytes())
        return found.hexdigest()


@dataclass(frozen=True)
class Likelihoods:
    """Scores of continuations, in their order."""

    nats: np.ndarray
    """Minus log-likelihood of each, float64."""
    greedy: np.ndarray
    """Whether each token is the likeliest one, bool."""


def at_border(context: str, continuation: str) -> tuple[str, str]:
    """Whitespace at the end of a context goes to its continuation, as in lm_eval: tokens begin with their space."""
    stripped = context.rstrip()
    return stripped, context[len(stripped) :] + continuation


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], *, first: int | None) -> list[Pair]:
    """Token ids of (context, continuation) texts; `first`, where given, stands before each context (end-of-text: a
    document begins). Raises InputError for an empty continuation.
    """
    for context, continuation in pairs:
        if not continuation:
            raise InputError(f"The continuation of {context[-60:]!r} is empty: there is nothing to score.")
    distinct = {context: place for place, context in enumerate(dict.fromkeys(context for context, _ in pairs))}
    contexts = encode_documents(tokenizer, list(distinct))
    wholes = encode_documents(tokenizer, [context + continuation for context, continuation in pairs])
    befores = [contexts[distinct[context]] for context, _ in pairs]
    joined = [whole[: len(before)] == before != whole for whole, before in zip(wholes, befores, strict=True)]
    apart = iter(encode_documents(tokenizer, [some for (_, some), one in zip(pairs, joined, strict=True) if not one]))
    begin = [] if first is None else [first]
    return [
        (begin + before, whole[len(before) :] if one else next(apart))
        for whole, before, one in zip(wholes, befores, joined, strict=True)
    ]


def continuations(pairs: Sequence[Pair], *, sequence_length: int) -> Continuations:
    """Windows of at most `sequence_length` tokens for `pairs`."""
    places: dict[bytes, int] = {}
    windows: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    piece_window, piece_continuation, cut = [], [], []
    for number, (context, continuation) in enumerate(pairs):
        stream = np.array([*context, *continuation], dtype=np.int64)
        begin = len(context)  # of the next piece's targets
        longest = max(1, sequence_length + 1 - len(continuation))  # context that fits beside the continuation
        cut.append(max(0, len(context) - longest))
        while begin < len(stream):
            end = min(len(stream), begin + sequence_length)
            # a continuation in one window takes what context fits; one in several takes a token, as held-out text
            start = max(0, end - 1 - sequence_length) if len(continuation) <= sequence_length else begin - 1
            window = stream[start : end - 1]
            place = places.setdefault(window.tobytes(), len(windows))
            if place == len(windows):
                windows.append(window)
            targets.append(stream[begin:end])
            piece_window.append(place)
            piece_continuation.append(number)
            begin = end
    return Continuations(
        tuple(windows),
        tuple(targets),
        np.array(piece_window, dtype=np.int64),
        np.array(piece_continuation, dtype=np.int64),
        np.array([len(continuation) for _, continuation in pairs], dtype=np.int64),
        np.array(cut, dtype=np.int64),
    )


def likelihoods(model: "Proxy", some: Continuations, *, batch_tokens: int | None = None) -> Likelihoods:
    """Score `some` under `model`. Raises InputError when a window is longer than the model's."""
    import torch

    longest = max((len(window) for window in some.windows), default=0)
    if longest > model.shape.sequence_length:
        raise InputError(
            f"A window holds {longest} tokens, the model takes {model.shape.sequence_length}: make the items for its "
            "sequence length."
        )
    lengths = np.array([len(window) for window in some.windows], dtype=np.int64)
    by_window = np.argsort(some.piece_window, kind="stable")
    first_piece = np.searchsorted(some.piece_window[by_window], np.arange(len(lengths) + 1))
    nats = np.zeros(len(some.tokens))
    greedy = np.ones(len(some.tokens), dtype=bool)
    device = model.head_weight.device
    with as_evaluated(model), torch.no_grad():
        for batch in batches_by_length(lengths, batch_tokens=batch_tokens or batch_tokens_on(device)):
            tokens = torch.zeros(len(batch), int(lengths[batch].max()), dtype=torch.int64)
            for row, window in enumerate(batch):
                tokens[row, : lengths[window]] = torch.from_numpy(some.windows[window])
            hidden = model.hidden(tokens.to(device)).flatten(0, 1)

            pieces = [by_window[first_piece[w] : first_piece[w + 1]] for w in batch]
            ends = np.arange(len(batch)) * tokens.shape[1] + lengths[batch]  # after each window's last position
            places = [(end, piece) for end, of_window in zip(ends, pieces, strict=True) for piece in of_window]
            positions = np.concatenate([np.arange(end - len(some.targets[piece]), end) for end, piece in places])
            targets = np.concatenate([some.targets[piece] for _, piece in places])
            owner = np.concatenate(
                [np.full(len(some.targets[piece]), some.piece_continuation[piece]) for _, piece in places]
            )
            token_nats, likeliest = _token_scores(hidden, model.head_weight, positions, targets)
            np.add.at(nats, owner, token_nats)
            np.logical_and.at(greedy, owner, likeliest == targets)
    return Likelihoods(nats, greedy)


def batch_tokens_on(device: "torch.device") -> int:
    """How many positions run at once on `device`, unless told."""
    return BATCH_TOKENS.get(device.type, BATCH_TOKENS_ELSEWHERE)


def batches_by_length(lengths: np.ndarray, *, batch_tokens: int) -> list[np.ndarray]:
    """Places of `lengths`, longest first, cut so that no batch has more than `batch_tokens` positions with padding;
    a batch holds one at least."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        count = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + count])
        start += count
    return batches


def _token_scores(
    hidden: "torch.Tensor", head: "torch.Tensor", positions: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nats (float64) of the target after each position, and the likeliest token there; positions that stand twice are
    computed once."""
    import torch

    distinct, row = np.unique(positions, return_inverse=True)
    nats, likeliest = np.empty(len(targets)), np.empty(len(distinct), dtype=np.int64)
    count = max(1, LOGITS_AT_ONCE // len(head))
    for start in range(0, len(distinct), count):
        part = torch.from_numpy(distinct[start : start + count]).to(hidden.device)
        logits = (hidden[part] @ head.mT).float()
        here = np.flatnonzero((row >= start) & (row < start + count))
        wanted = torch.from_numpy(np.stack([row[here] - start, targets[here]])).to(hidden.device)
        chosen = logits[wanted[0], wanted[1]]
        nats[here] = (logits.logsumexp(1)[wanted[0]] - chosen).double().cpu().numpy()
        likeliest[start : start + count] = logits.argmax(1).cpu().numpy()
    return nats, likeliest[row]
