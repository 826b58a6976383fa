"""One group of runs from its first step to its last: trainer, checkpoints, faults, logs, several ranks."""
