"""The command line: thin, no logic. Every command answers `--help`; heavy parts load when a command needs them.

Exit codes: 0 done, 2 an error that the message explains, 130 interrupted (run the same command again to go on).
"""

import argparse
import os
import sys
from pathlib import Path

from curate import __version__
from curate.errors import CurateError


def main(arguments: list[str] | None = None) -> int:
    """Parse, dispatch, and turn errors into one sentence."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options) or 0)
    except CurateError as error:
        print(f"curate: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # the disk is full, a folder may not be written: nothing that a traceback would explain
        print(f"curate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("curate: interrupted. What was finished is kept: run the same command again to go on.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="curate", description="Raw crawl in, ranked datasets out: curate pre-training data, prove which is better."
    )
    parser.add_argument("--version", action="version", version=f"curate {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="the main job on data that ships: three recipes, a ladder, a verdict")
    demo.add_argument("--ladder", default=None, help="another ladder: a name (demo, laptop) or a YAML file")
    _work_options(demo, "curate-demo")
    demo.set_defaults(command=_demo)

    study = commands.add_parser("study", help="datasets x ladder -> verdict, from a YAML file")
    study.add_argument("study", type=Path, metavar="STUDY.yaml")
    study.add_argument("--ladder", default=None, help="another ladder than the study names")
    _work_options(study, "curate-work")
    study.set_defaults(command=_study)

    run = commands.add_parser("run", help="make one dataset from a recipe")
    run.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    run.add_argument("--source", default=None, help="read these files instead of the recipe's")
    run.add_argument("--builtin-only", action="store_true", help="refuse import paths: for a recipe from a stranger")
    _work_options(run, "curate-work")
    run.set_defaults(command=_run)

    why = commands.add_parser("why", help="what became of one record, stage by stage")
    why.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    why.add_argument("record", metavar="ID-OR-URL")
    why.add_argument("--source", default=None, help="the --source that the run had")
    why.add_argument("--work", type=Path, default=Path("curate-work"), help="the work folder of the run")
    why.set_defaults(command=_why)

    compare = commands.add_parser("compare", help="rank datasets from a table of results (CSV or Parquet)")
    compare.add_argument("results", type=Path, metavar="RESULTS")
    compare.add_argument("--metric", default="bits_per_byte")
    compare.add_argument("--law", default="power", help="power or chinchilla")
    compare.add_argument("--at", type=float, nargs="*", default=[], metavar="FLOPS", help="compute at which to compare")
    compare.add_argument("--seed", type=int, default=0)
    compare.add_argument("--bootstraps", type=int, default=1000)
    compare.add_argument("--report", type=Path, default=None, metavar="PAGE.html")
    compare.add_argument("--json", type=Path, default=None, metavar="VERDICT.json")
    compare.set_defaults(command=_compare)
    return parser


def _work_options(parser: argparse.ArgumentParser, work: str) -> None:
    parser.add_argument("--work", type=Path, default=Path(work), help=f"folder for stages and results (default {work})")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        default=None,
        metavar="ADDRESS",
        help="curate as Ray tasks: on a cluster (auto, host:port, ray://...), or on one started here (no address)",
    )
    parser.add_argument("--verify", action="store_true", help="hash inputs and finished parts again")


def _demo(options: argparse.Namespace) -> int:
    from curate.sample import study

    options.study = study()
    return _study(options)


def _study(options: argparse.Namespace) -> int:
    from curate.engine.executors import executor_for
    from curate.report.progress import RichProgress
    from curate.report.terminal import summary
    from curate.study import load_study, run_study

    study = load_study(options.study, ladder=options.ladder)
    with RichProgress() as progress:
        executor = executor_for(options.workers, options.ray)
        try:
            result = run_study(
                study,
                work=options.work,
                executor=executor,
                workers=options.workers,
                progress=progress,
                verify=options.verify,
            )
        finally:
            executor.close()
    _print(summary(result.content))
    print(f"\nmeasurements  {result.folder / 'measurements.parquet'}\nverdict       {result.folder / 'verdict.json'}")
    print(f"page          {result.page}")
    return 0


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
    _print(funnel(dataset.name, dataset.funnel))
    print(f"\n{dataset.documents:,} documents, {dataset.text_bytes / 1e6:,.1f} MB of text, {dataset.fingerprint}")
    print(f"parts  {dataset.stages[-1].folder}")
    for target in recipe.output.values():
        print(f"output {target if '://' in target else (recipe.folder / target).resolve()}")
    return 0


def _why(options: argparse.Namespace) -> int:
    from curate.engine.recipe import load_recipe
    from curate.engine.why import why

    for line in why(load_recipe(options.recipe, source=options.source), options.record, work=options.work):
        print(line)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from curate.comparator import compare, read_results

    measurements = read_results(options.results)
    verdict = compare(
        measurements,
        metric=options.metric,
        at=options.at,
        law=options.law,
        seed=options.seed,
        bootstraps=options.bootstraps,
    )
    print(verdict)
    if options.json:
        from curate.fingerprints import write_json

        write_json(options.json, verdict.to_dict())
    if options.report:
        from curate.report.page import write_comparison

        write_comparison(verdict, measurements, options.report)
        print(f"page  {options.report}")
    return 0


def _print(renderable: object) -> None:
    from rich.console import Console

    Console().print(renderable)


if __name__ == "__main__":
    sys.exit(main())
