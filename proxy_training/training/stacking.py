"""How many models of one shape train fastest as one stack on a CPU core: a rule by shape, so that groups are the same
everywhere.

Measured against one model alone (benchmarks/training/speed.py; ratios of CPU time on a shared machine), .05M parameters
of blocks: compiled bf16 at a vocabulary of 4,096, as one graph 1.12 with 4 members, block by block 1.17 and 1.25 with 2
and 4; eager fp32 at a vocabulary of 1,024, width 32: 1.18, 1.16, 1.16 with 2, 4, 8; width 48: 1.06, 1.09, 1.02. Larger
shapes fill a core alone; a stack of them only leaves the cache, compiles once more, and cannot be spread over cores. A
member's losses do not depend on how many stand beside it in eager fp32 and bf16 (2, 4, 8: same bits); a plain model
differs from a stack by float rounding (5e-8 of a gradient).
"""

from curate.proxy_training.network.shape import ModelShape

SMALL, MEMBERS = 100_000, 4


def members_for(shape: ModelShape, batch_tokens: int) -> int:
    """The largest number of members worth stacking; 1 where stacking gains nothing."""
    return MEMBERS if shape.parameters_blocks < SMALL and batch_tokens <= 2048 else 1
