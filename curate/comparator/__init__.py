"""From a table of measurements to a verdict: which dataset is better, at which compute, by how much, and how sure."""

from curate.comparator.compare import compare
from curate.comparator.tables import read_results
from curate.comparator.verdict import Verdict

__all__ = ["Verdict", "compare", "read_results"]
