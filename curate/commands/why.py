"""`curate why`: what became of one record."""

import argparse
from pathlib import Path

from curate.commands.options import Commands


def add(commands: Commands) -> None:
    """Define the command."""
    why = commands.add_parser("why", help="what became of one record, stage by stage")
    why.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    why.add_argument("record", metavar="ID-OR-URL")
    why.add_argument("--source", default=None, help="the --source that the run had")
    why.add_argument("--work", type=Path, default=Path("curate-work"), help="the work folder of the run")
    why.set_defaults(command=_why)


def _why(options: argparse.Namespace) -> int:
    from curate.engine.recipe import load_recipe
    from curate.engine.why import why

    for line in why(load_recipe(options.recipe, source=options.source), options.record, work=options.work):
        print(line)
    return 0
