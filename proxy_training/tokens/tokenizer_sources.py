"""Where a given tokenizer comes from: a file (also .gz), a folder of Hugging Face, or a name on the hub.

`settle_tokenizer` makes one tokenizer file of it, whose hash is the study's tokenizer: the file itself where it is one
already, else a copy in the work folder. The end of text is what the caller says, else `eos_token` of
tokenizer_config.json, else what the file has; a copy carries it as a template that appends it, so that one file says
all. No code of a tokenizer runs. What came from the hub is kept: the same name stays the same file in a work folder.
"""

import gzip
import json
import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from curate.errors import InputError, MismatchError, first_line
from curate.fingerprints import fingerprint
from curate.proxy_training.tokens.tokenizer import end_of_text as end_of_text_of
from curate.proxy_training.tokens.tokenizer import load_tokenizer, vocabulary_size
from curate.storage import put

HUB_NAME = re.compile(r"[\w.\-]+(/[\w.\-]+)?(@[\w.\-/]+)?")
"""`owner/name`, or `owner/name@revision`."""
HUB_FILES = ["tokenizer.json", "tokenizer_config.json"]
LARGEST_BYTES = 1 << 28
"""Of a tokenizer file, unpacked; the largest known ones have 40 MB."""


def settle_tokenizer(named: str, *, folder: Path, end_of_text: str | None = None) -> Path:
    """A tokenizer file for `named`: a path, or a name on the hub. Copies lie in `folder`.

    Raises InputError when there is none, when it cannot be read, or when it does not have the token `end_of_text`.
    """
    path = path_named(named)
    if path.exists():
        return _settled(path, folder, end_of_text)
    if not is_hub_name(named):
        raise InputError(f"{named}: no tokenizer here; name a tokenizer.json, its folder, or owner/name on the hub.")
    kept = folder / f"hub-{re.sub('[^A-Za-z0-9.-]+', '--', named)}-{fingerprint([named, end_of_text])[:8]}.json"
    if not kept.exists():
        settled = _settled(_from_hub(named), folder, end_of_text)
        put(kept, settled.read_bytes())
    return kept


def check_vocabulary(tokenizer: Path, ladder: str, *, entries: int, rows: int | None) -> str | None:
    """A sentence where the tokenizer does not have the `entries` that a ladder counts with; raises MismatchError where
    the `rows` that it gives its models do not hold the ids."""
    found = vocabulary_size(load_tokenizer(tokenizer))
    if rows is not None and found > rows:
        raise MismatchError(
            f"{tokenizer}: {found:,} entries, and the models of ladder {ladder!r} have {rows:,} rows "
            "(model_vocab_size); take the ladder's tokenizer, or another ladder."
        )
    if found == entries:
        return None
    return (
        f"The tokenizer has {found:,} entries and ladder {ladder} counts with {entries:,}: models have as many rows as "
        "needed, and sizes and FLOPs are counted with them, but budgets stay as the ladder has them."
    )


def path_named(named: str) -> Path:
    """A path as people write it; `~nobody`, which is no user, stays what it is."""
    try:
        return Path(named).expanduser()
    except RuntimeError:
        return Path(named)


def is_hub_name(named: str) -> bool:
    """Whether a name that is no file here may be one on the hub."""
    return bool(HUB_NAME.fullmatch(named)) and not named.startswith(".") and Path(named).suffix not in (".json", ".gz")


def _settled(source: Path, folder: Path, end: str | None) -> Path:
    """The file of a path that exists."""
    file = source / "tokenizer.json" if source.is_dir() else source
    if source.is_dir() and not file.exists():
        content = _converted(source)
    else:
        content = _content(file)
    end = end or _configured_end(file.parent / "tokenizer_config.json")
    changed = _with_end(content, end, file)
    if changed == content and file.exists() and file.suffix != ".gz":
        load_tokenizer(file)  # says what is wrong with it
        return file
    copy = folder / f"{fingerprint(changed.decode())[:16]}.json"
    if not copy.exists():
        put(copy, changed)
    load_tokenizer(copy)
    return copy


def _content(file: Path) -> bytes:
    """The bytes of a tokenizer file, unpacked."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            content = opened.read(LARGEST_BYTES + 1)
    except (OSError, EOFError) as error:
        raise InputError(f"{file}: cannot read the tokenizer ({error}).") from error
    if len(content) > LARGEST_BYTES:
        raise InputError(f"{file}: more than {LARGEST_BYTES >> 20} MB unpacked; no tokenizer is that large.")
    return bytes(content)


def _configured_end(config: Path) -> str | None:
    """`eos_token` of a tokenizer_config.json, if there is one."""
    if not config.is_file():
        return None
    try:
        facts = json.loads(config.read_text(encoding="utf-8"))
        token = facts.get("eos_token")
        return token.get("content") if isinstance(token, dict) else token
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{config}: not the configuration of a tokenizer ({error}).") from error


def _with_end(content: bytes, end: str | None, file: Path) -> bytes:
    """The tokenizer with `end` as what a template appends to a text; unchanged where it is its end of text anyway."""
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises a bare Exception for everything
        raise InputError(f"{file}: not a tokenizer of the `tokenizers` library ({error}).") from error
    if end is None:
        return content
    place = tokenizer.token_to_id(end)
    if place is None:
        raise InputError(f"{file}: the tokenizer has no token {end!r} to separate documents with.")
    try:
        if end_of_text_of(tokenizer) == place:
            return content
    except InputError:  # it has none by itself
        pass
    facts: dict[str, Any] = json.loads(content)
    first, second = ({"Sequence": {"id": one, "type_id": number}} for number, one in enumerate("AB"))
    facts["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, {"SpecialToken": {"id": end, "type_id": 0}}],
        "pair": [first, second],
        "special_tokens": {end: {"id": end, "ids": [place], "tokens": [end]}},
    }
    return json.dumps(facts, ensure_ascii=False).encode()


def _converted(folder: Path) -> bytes:
    """A folder that holds a tokenizer in another form than tokenizer.json, as transformers reads it."""
    from transformers import AutoTokenizer

    try:
        read = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises anything here
        raise InputError(f"{folder}: holds no tokenizer that transformers can read ({first_line(error)}).") from error
    if not read.is_fast:
        raise InputError(f"{folder}: its tokenizer has no form of the `tokenizers` library; name another one.")
    return str(read.backend_tokenizer.to_str()).encode()


def _from_hub(named: str) -> Path:
    """The folder that the hub's files of a tokenizer lie in."""
    from huggingface_hub import snapshot_download

    name, _, revision = named.partition("@")
    try:
        found = Path(snapshot_download(name, revision=revision or None, allow_patterns=HUB_FILES))
        if not (found / "tokenizer.json").exists():  # an older form: whatever else it consists of, but no weights
            patterns = ["*.json", "*.model", "merges.txt", "vocab.txt"]
            found = Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except Exception as error:  # the hub has a dozen kinds of errors, and requests its own
        raise InputError(
            f"{named}: no such file here, and the hub does not give it ({type(error).__name__}: {first_line(error)}); "
            "name the path of its tokenizer.json with `tokenizer:`."
        ) from error
    return found
