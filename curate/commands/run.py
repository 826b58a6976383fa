"""`curate run`: one dataset from a recipe."""

import argparse
from pathlib import Path

from curate.commands.options import Commands, show, work_options


def add(commands: Commands) -> None:
    """Define the command."""
    run = commands.add_parser("run", help="make one dataset from a recipe")
    run.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    run.add_argument("--source", default=None, help="read these files instead of the recipe's")
    run.add_argument("--builtin-only", action="store_true", help="refuse import paths: for a recipe from a stranger")
    work_options(run, "curate-work")
    run.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from curate.engine.executors import executor_for
    from curate.engine.recipe import load_recipe
    from curate.engine.run import Engine
    from curate.report.progress import RichProgress
    from curate.report.terminal import funnel

    recipe = load_recipe(options.recipe, source=options.source, builtin_only=options.builtin_only)
    with RichProgress() as progress:
        executor = executor_for(options.workers, options.ray)
        try:
            dataset = Engine(options.work, executor, progress=progress, verify=options.verify).run(recipe)
        finally:
            executor.close()
    show(funnel(dataset.name, dataset.funnel))
    print(f"\n{dataset.documents:,} documents, {dataset.text_bytes / 1e6:,.1f} MB of text, {dataset.fingerprint}")
    print(f"parts  {dataset.stages[-1].folder}")
    for target in recipe.output.values():
        print(f"output {target if '://' in target else (recipe.folder / target).resolve()}")
    return 0
