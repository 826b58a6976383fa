"""From a table of measurements to a verdict: which dataset is better, at which compute, by how much, and how sure.

Beside it, one law at a time: `fit` it, `profile` a parameter, and `audit` a published fit.
"""

from curate.comparator.adapters import read_runs
from curate.comparator.audit import audit
from curate.comparator.backtest import backtest
from curate.comparator.compare import compare
from curate.comparator.examples import load_example
from curate.comparator.fit import fit
from curate.comparator.laws import find_law, register
from curate.comparator.plan import next_batch, plan, smallest_ladder
from curate.comparator.profile import profile
from curate.comparator.tables import read_results
from curate.comparator.verdict import Verdict

__all__ = [
    "Verdict",
    "audit",
    "backtest",
    "compare",
    "find_law",
    "fit",
    "load_example",
    "next_batch",
    "plan",
    "profile",
    "read_results",
    "read_runs",
    "register",
    "smallest_ladder",
]
