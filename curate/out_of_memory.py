"""Whether an error says that memory ran out, on the host or on an accelerator. No torch here."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host's or an accelerator's memory ran out (torch's class by name: it need not be there)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's allocator on a CPU
