"""A token budget as people name it: `300B`, `3e11`, `300_000_000_000`, or the exact number with the commas of a plan.

A ladder's budgets are whole batches, 300,000,411,648 where a paper prints 300B: what is meant is the budget that,
printed with as many digits as were asked for, is that number. Pure.
"""

import re
from collections.abc import Mapping
from decimal import Decimal

from curate.errors import RecipeError

POWERS = {"": 0, "k": 3, "m": 6, "b": 9, "t": 12}
"""Of ten, by the unit behind a number."""


def find_budget(asked: int | str, budgets: Mapping[int, int]) -> int | None:
    """The budget that `asked` names; `budgets` are those that there are, by each number that one may be called by.

    None where no budget, or no single one, rounds to it. Raises RecipeError for what is no number of tokens.
    """
    text = re.sub(r"[,_\s]", "", str(asked)).lower()
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)(?:e\+?(\d{1,2}))?([kmbt]?)", text)
    if not found:
        raise RecipeError(f"{asked!r} is no number of tokens: write 300B, 3e11 or 300,000,411,648.")
    value = Decimal(found[1]).scaleb(int(found[2] or 0) + POWERS[found[3]])
    if value in budgets:
        return budgets[int(value)]
    digits = len(found[1].replace(".", "").strip("0")) or 1
    meant = {budget for number, budget in budgets.items() if Decimal(f"{number:.{digits - 1}e}") == value}
    return meant.pop() if len(meant) == 1 else None
