"""A proxy in memory as a model of lm-evaluation-harness: any of its tasks runs on it.

`lm_eval.simple_evaluate(model=ProxyLM(*load_run(folder)), tasks=["hellaswag"])`; by name, once this module is imported,
`simple_evaluate(model="curate-proxy", model_args="folder=exported")` reads what `export_to_hugging_face` wrote. Scores
are those of `likelihood.py`, so equal to our own for equal text, whatever the batch. lm_eval's class for Hugging Face
models gives the same numbers with `document_start=False`: it puts no end-of-text before a context.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from lm_eval import utils
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
except ImportError as error:
    raise ImportError(f'{error}: ProxyLM needs lm-evaluation-harness; pip install "curate[eval]".') from error
from tokenizers import Tokenizer

from curate.errors import InputError
from curate.fingerprints import fingerprint, seed_of
from curate.proxy_training.evaluation.generation import generate
from curate.proxy_training.evaluation.likelihood import Pair, at_border, continuations, encode_pairs, likelihoods
from curate.proxy_training.model import Proxy
from curate.proxy_training.tokens.tokenizer import encode_documents, end_of_text, load_tokenizer

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
WITHOUT_EFFECT = {"top_p": (None, 1, 1.0), "top_k": (None, 0), "num_beams": (None, 1), "repetition_penalty": (None, 1)}
"""Settings of sampling that are refused with any other value, as they would be ignored."""


@register_model("curate-proxy")
class ProxyLM(TemplateLM):
    """`model` is one proxy (no members) with the tokenizer of its study; or `folder` holds both."""

    def __init__(
        self,
        model: Proxy | None = None,
        tokenizer: Tokenizer | None = None,
        *,
        folder: str | Path | None = None,
        document_start: bool = True,
        max_gen_toks: int = 256,
        batch_tokens: int | None = None,
        seed: int = 0,
        device: str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        """`document_start` puts end-of-text before each context, where a document begins in training; `max_gen_toks`
        holds where a task says nothing; `seed` is of sampling. lm_eval passes `batch_size` and `max_batch_size`:
        batches are cut by tokens instead and change no result."""
        super().__init__()
        if folder is not None:
            from curate.proxy_training.network.huggingface import load_from_hugging_face

            model, tokenizer = load_from_hugging_face(Path(folder)), load_tokenizer(Path(folder) / "tokenizer.json")
        if model is None or tokenizer is None:
            raise InputError("ProxyLM needs a model and its tokenizer, or the folder of an exported proxy.")
        if model.members is not None:
            raise InputError(f"ProxyLM takes one proxy, not a stack of {model.members}; give it `stack.member(i)`.")
        self.model = model.to(device) if device else model
        self.tokenizer = None  # lm_eval would look for chat templates in it
        self._tokenizer = tokenizer
        self._end = end_of_text(tokenizer)
        self._begin = document_start
        self._max_gen_toks = max_gen_toks
        self._batch_tokens = batch_tokens
        self._seed = seed

    @property
    def eot_token_id(self) -> int:
        """End-of-text."""
        return self._end

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at once."""
        return self.model.shape.sequence_length

    @property
    def device(self) -> Any:
        """Where the model is."""
        return self.model.head_weight.device

    @property
    def tokenizer_name(self) -> str:
        """Names lm_eval's cache of requests."""
        return fingerprint(self._tokenizer.to_str())

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; never end-of-text, which no text can fake."""
        return encode_documents(self._tokenizer, [string])[0]

    def loglikelihood(self, requests: list["Instance"], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation after its context, and whether it is the greedy one."""
        texts = [at_border(*request.args) for request in requests]
        first = self._end if self._begin else None
        pairs = encode_pairs(self._tokenizer, texts, first=first)
        named = [(request.args, *pair) for request, pair in zip(requests, pairs, strict=True)]
        return self._loglikelihood_tokens(named)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str] | None, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs = [(context or [self._end], continuation) for _, context, continuation in requests]
        answers = self._scored(pairs)
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def loglikelihood_rolling(self, requests: list["Instance"], disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of each whole text, in lm_eval's windows: disjoint targets, each with what context fits."""
        pairs: list[Pair] = []
        counts = []
        for tokens in encode_documents(self._tokenizer, [request.args[0] for request in requests]):
            windows = utils.get_rolling_token_windows(
                token_list=tokens, prefix_token=self._end, max_seq_len=self.max_length, context_len=1
            )
            disjoint = [utils.make_disjoint_window(window) for window in windows]
            pairs += disjoint
            counts.append(len(disjoint))
        scores = iter(self._scored(pairs))
        found = [sum(next(scores)[0] for _ in range(count)) for count in counts]
        for request, value in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, value)
        return found

    def _scored(self, pairs: list[Pair]) -> list[tuple[float, bool]]:
        some = continuations(pairs, sequence_length=self.max_length)
        found = likelihoods(self.model, some, batch_tokens=self._batch_tokens)
        return [(float(-nats), bool(greedy)) for nats, greedy in zip(found.nats, found.greedy, strict=True)]

    def generate_until(self, requests: list["Instance"], disable_tqdm: bool = False) -> list[str]:
        """Text after each context up to the first of its `until`; a sample depends on the seed, the context and how
        often it was asked before, not on the batch."""
        made = [""] * len(requests)
        asked: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            asked.setdefault(repr(sorted(request.args[1].items())), []).append(place)
        before: dict[str, int] = {}
        for places in asked.values():
            texts = [requests[place].args[0] for place in places]
            until, longest, temperature = self._settings(requests[places[0]].args[1])
            seeds = []
            for text in texts:
                before[text] = before.get(text, 0) + 1
                seeds.append(seed_of([self._seed, text, before[text]]))
            begin = [self._end] if self._begin else []
            tokens = generate(
                self.model,
                [begin + ids or [self._end] for ids in encode_documents(self._tokenizer, texts)],
                max_tokens=longest,
                end=self._end,
                temperature=temperature,
                seeds=seeds,
                finished=partial(self._stopped, until),
                batch_tokens=self._batch_tokens,
            )
            for place, ids in zip(places, tokens, strict=True):
                text = self._tokenizer.decode(ids)
                made[place] = text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]
                self.cache_hook.add_partial("generate_until", requests[place].args, made[place])
        return made

    def _stopped(self, until: list[str], tokens: list[int]) -> bool:
        return any(stop in self._tokenizer.decode(tokens) for stop in until)

    def _settings(self, asked: dict[str, Any]) -> tuple[list[str], int, float]:
        """Stops, tokens at most, temperature. Raises InputError for what would be ignored."""
        for name, values in WITHOUT_EFFECT.items():
            if asked.get("do_sample") and asked.get(name) not in values:
                raise InputError(f"ProxyLM does not know {name}={asked[name]!r}; take it out of generation_kwargs.")
        until = asked.get("until") or []
        longest = next((asked[name] for name in LENGTH_NAMES if asked.get(name) is not None), self._max_gen_toks)
        sampled = asked.get("do_sample", float(asked.get("temperature") or 0.0) > 0)
        temperature = float(asked.get("temperature", 1.0)) if sampled else 0.0
        return [stop for stop in ([until] if isinstance(until, str) else until) if stop], int(longest), temperature
