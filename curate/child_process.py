"""A question to a process of its own, so that what it loads (torch, CUDA) never loads in this one."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection

from curate.errors import TrainingError


def ask_child(question: Callable[[Connection], None]) -> object:
    """What `question` sends from a process of its own, so that torch never loads in this one. Raises TrainingError."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=question, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        raise TrainingError("A process that looked at this machine's devices ended without an answer.") from None
    finally:
        process.join()
