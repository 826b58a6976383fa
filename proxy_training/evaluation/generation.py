"""Text from a proxy: greedy, or sampled with a seed for each prompt, so that what runs beside it changes nothing.

The whole window is computed again for each token (there is no cache of keys): right for short answers of small models,
quadratic in their length. For long texts export the proxy and use `transformers`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from curate.proxy_training.evaluation.evaluators import as_evaluated
from curate.proxy_training.evaluation.likelihood import batch_tokens_on, batches_by_length

if TYPE_CHECKING:
    from curate.proxy_training.model import Proxy


def generate(
    model: "Proxy",
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    end: int,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    finished: Callable[[list[int]], bool] = lambda _: False,
    batch_tokens: int | None = None,
) -> list[list[int]]:
    """At most `max_tokens` tokens after each prompt (one token at least), up to the token `end`, which is left out, or
    until `finished` says so of what was made.

    A temperature of 0 takes the likeliest token; above it `seeds` has one for each prompt. A prompt and its text that
    outgrow the model's window lose tokens from the left.
    """
    import torch

    longest = model.shape.sequence_length
    chances = [np.random.default_rng(seed) for seed in (seeds if seeds is not None else range(len(prompts)))]
    made: list[list[int]] = [[] for _ in prompts]
    open_prompts = list(range(len(prompts)))
    device = model.head_weight.device
    with as_evaluated(model), torch.no_grad():
        for _ in range(max_tokens):
            windows = {p: [*prompts[p], *made[p]][-longest:] for p in open_prompts}
            lengths = np.array([len(windows[p]) for p in open_prompts], dtype=np.int64)
            ended = set()
            for batch in batches_by_length(lengths, batch_tokens=batch_tokens or batch_tokens_on(device)):
                tokens = torch.zeros(len(batch), int(lengths[batch].max()), dtype=torch.int64)
                for row, place in enumerate(batch):
                    tokens[row, : lengths[place]] = torch.tensor(windows[open_prompts[place]])
                last = torch.from_numpy(lengths[batch] - 1).to(device)
                hidden = model.hidden(tokens.to(device))[torch.arange(len(batch), device=device), last]
                for logits, place in zip((hidden @ model.head_weight.mT).double().cpu().numpy(), batch, strict=True):
                    prompt = open_prompts[place]
                    token = _next_token(logits, temperature, chances[prompt])
                    if token == end:
                        ended.add(prompt)
                        continue
                    made[prompt].append(token)
                    if finished(made[prompt]):
                        ended.add(prompt)
            open_prompts = [prompt for prompt in open_prompts if prompt not in ended]
            if not open_prompts:
                break
    return made


def _next_token(logits: np.ndarray, temperature: float, chance: np.random.Generator) -> int:
    """The likeliest token, or one drawn from the softmax of logits / temperature."""
    if temperature == 0:
        return int(logits.argmax())
    shares = np.exp((logits - logits.max()) / temperature).cumsum()
    return int(np.searchsorted(shares, chance.random() * shares[-1], side="right").clip(max=len(logits) - 1))
