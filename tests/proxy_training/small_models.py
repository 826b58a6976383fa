"""A tokenizer of single bytes and models without knowledge, for tests whose answer is known beforehand."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from curate.proxy_training.model import Proxy
from curate.proxy_training.network.shape import ModelShape
from curate.proxy_training.tokens.tokenizer import END_OF_TEXT


def byte_tokenizer() -> Tokenizer:
    """256 tokens: end-of-text, and every byte but 0xFF, which no text holds."""
    letters = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - {"ÿ"})
    vocabulary = {END_OF_TEXT: 0} | {letter: place for place, letter in enumerate(letters, 1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.encode_special_tokens = True
    return tokenizer


def proxy(vocab_size: int = 256, *, sequence_length: int = 64, seed: int = 0) -> Proxy:
    return Proxy(ModelShape(vocab_size, 16, 1, 2, 32, sequence_length)).initialise(seed)


def uniform(vocab_size: int = 256, *, sequence_length: int = 64) -> Proxy:
    """Every token is as likely as any other."""
    model = proxy(vocab_size, sequence_length=sequence_length)
    for weight in model.parameters():
        weight.data.zero_()
    return model
