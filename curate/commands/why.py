"""`curate why`: what became of one record."""

import argparse
from pathlib import Path

from curate.commands.options import BUILTIN_ONLY, Commands, place


def add(commands: Commands) -> None:
    """Define the command."""
    why = commands.add_parser("why", help="what became of one record, stage by stage")
    why.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    why.add_argument("record", metavar="ID-OR-URL")
    why.add_argument("--source", default=None, help="the --source that the run had")
    why.add_argument("--work", type=place, default=Path("curate-work"), help="the work folder of the run")
    why.add_argument("--builtin-only", action="store_true", help=BUILTIN_ONLY)
    why.set_defaults(command=_why)


def _why(options: argparse.Namespace) -> int:
    from curate.engine.recipe import load_recipe
    from curate.engine.why import why
    from curate.report.markup import visible

    recipe = load_recipe(options.recipe, source=options.source, builtin_only=options.builtin_only)
    for line in why(recipe, options.record, work=options.work):
        print(visible(line).replace("\n", " "))  # ids, addresses and errors come from data
    return 0
