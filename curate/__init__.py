"""curate: raw crawl in, ranked datasets out. Heavy parts load when they are used.

In a notebook: `curate.compare(curate.read_runs("results.csv"), metric="bits_per_byte", at=[1e21])` is a verdict that
prints and plots itself; so are `curate.backtest(...)` and `curate.plan(...)`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curate.comparator import backtest, compare, load_example, plan, read_runs

__version__ = "0.1.0"
__all__ = ["__version__", "backtest", "compare", "load_example", "plan", "read_runs"]


def __getattr__(name: str) -> object:
    if name in __all__:
        import curate.comparator

        return getattr(curate.comparator, name)
    raise AttributeError(f"module 'curate' has no attribute {name!r}")
