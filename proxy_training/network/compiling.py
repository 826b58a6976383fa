"""What of a model is compiled, where the kernels are kept, and whether this machine can.

`eager` compiles nothing; `blocks` each transformer block (one graph for all blocks of a shape); `whole` the way from
tokens to the head's input as one graph; both the loss over a chunk of tokens, where cross_entropy.py has no kernel of
its own. Compiled kernels round differently from eager ones, so the choice is a field of the procedure. Kernels lie in a
cache on disk that all processes share: compiling costs 50 to 85 s of CPU a shape when new, 2 to 12 s afterwards
(benchmarks/training/speed.json). On a CPU `whole` trains 1.05 x as fast as `blocks` with 2 layers and 1.19 x with 4,
more than it costs from the second dataset of a laptop ladder on, so `auto` takes it. On a GPU the two are equal
(22 layers, H100: 278,000 and 279,000 tokens a second), and `blocks` compiles in half the time.
"""

import os
import re
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from curate.child_process import ask_child
from curate.errors import TrainingError, first_line
from curate.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from curate.proxy_training.model import Proxy

CompileMode = Literal["eager", "blocks", "whole"]
UNFINISHED = re.compile(r"(/[^\n]*?\.so): (?:file too short|invalid ELF|cannot read file data)")
UNFINISHED_MAX = 50  # a kill leaves one or two for each compiler that ran


def settle_compile(
    wanted: CompileMode | Literal["auto"], *, ladder: str, device: str, note: Callable[[str], None]
) -> CompileMode:
    """What `auto` means here: `whole` on a CPU, `blocks` elsewhere (deep models), `eager` with a note where
    torch.compile fails. Raises TrainingError when it fails and `wanted` names a way of compiling."""
    if wanted == "eager":
        return "eager"
    problem = compile_problem()
    if problem and wanted != "auto":
        raise TrainingError(
            f"Ladder {ladder!r} wants `compile: {wanted}`, but torch.compile fails here ({problem}); "
            "install a C++ compiler and Python's headers, or say `compile: auto`."
        )
    if problem:
        note(f"torch.compile fails here ({problem}): training runs eagerly, 2 to 3 x slower.")
        return "eager"
    if wanted != "auto":
        return wanted
    return "whole" if device == "cpu" else "blocks"


def compile_model(model: "Proxy", mode: CompileMode) -> None:
    """Let `model` run compiled from its next step on; state and parameter names stay as they are."""
    if mode == "eager":
        return
    import torch

    keep_kernels()
    # one graph a shape; past the limit dynamo would silently run eagerly
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 10_000
    model.compiled_loss = True
    if mode == "blocks":
        for block in model.blocks:
            block.compile(dynamic=False)
    else:
        model.hidden = torch.compile(model.hidden, dynamic=False)  # type: ignore[method-assign]


def compile_now(model: "Proxy", example: Sequence[int]) -> None:
    """Compile for token ids of shape `example`, a micro batch, and mend kernels in the cache that a killed compiler
    left unfinished; else the first step compiles. Weights, gradients and random state stay as they are."""
    import torch

    tokens = torch.zeros(tuple(example), dtype=torch.long, device=model.embedding.weight.device)
    for _ in range(UNFINISHED_MAX):
        try:
            model(tokens)[0].sum().backward()
            break
        except Exception as error:
            if is_out_of_memory(error):
                break  # the first step meets it again, and takes a smaller micro batch
            found = UNFINISHED.search(str(error))
            if found is None and "compil" in str(error).lower():
                raise TrainingError(
                    f"Compiling failed: {first_line(error)}. If a compiler was killed before, remove "
                    f"{keep_kernels()}; else say `compile: eager`."
                ) from error
            if found is None:
                raise
            Path(found[1]).unlink(missing_ok=True)  # it is compiled again
            torch._dynamo.reset()
        finally:
            model.zero_grad(set_to_none=True)
    else:
        raise TrainingError(
            f"The cache of compiled kernels holds over {UNFINISHED_MAX} damaged files: remove {keep_kernels()}."
        )


def keep_kernels() -> Path:
    """Let all processes share compiled kernels in TORCHINDUCTOR_CACHE_DIR, else the user's cache, and return the
    folder; call it before torch compiles."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "curate" / "kernels"
    return Path(os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder)))


def compile_problem() -> str | None:
    """Compile a tiny function in a process of its own; what went wrong in one line, or None."""
    try:
        answer = ask_child(_try_compile)
    except TrainingError:
        return "the compiling process ended without an answer"
    return str(answer) if answer else None


def _try_compile(pipe: Connection) -> None:
    keep_kernels()
    import torch

    torch.set_num_threads(1)
    try:
        compiled = torch.compile(lambda x: (x * 2).sin().sum())
        compiled(torch.ones(64, requires_grad=True)).backward()
        pipe.send(None)
    except Exception as error:  # any failure means: no compilation here
        pipe.send(first_line(error))
