"""The command line: thin, no logic. Every command answers `--help`; heavy parts load when a command needs them.

Exit codes: 0 done, 2 an error that the message explains, 130 interrupted (run the same command again to go on).
"""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from curate import __version__
from curate.errors import CurateError

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.report.figures import Format


FIGURES: "tuple[Format, ...]" = ("pdf", "svg", "png")
MOST_NOTES = 6
"""Notes of a verdict that are printed."""


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

    compare = _command(
        commands,
        "compare",
        "rank datasets from results: tables, lm-eval, W&B, DCLM, ...",
        "Which dataset is better, at which compute, by how much, and how sure. Prints the verdict: '>' is decided, '?' "
        "is not, '!' is a warning.",
        "curate compare results.csv --at 1e21 --report out.html",
        "curate compare runs.csv --columns params=n_params --columns metric:loss=val_loss",
        "curate compare evals/ --set runs_table=runs.csv --metric acc/arc_easy",
        "curate compare --example dclm --figures figures/",
    )
    _result_options(compare)
    compare.add_argument(
        "--law",
        default=None,
        help="law of the curves and compute multipliers: power (default; an example's own for --example), power2, "
        "chinchilla, ...; an unknown name lists all",
    )
    compare.add_argument(
        "--at",
        type=float,
        nargs="+",
        default=[],
        metavar="FLOPS",
        help="compute at which to compare, one or several numbers, after RESULTS (default: the largest that all reach)",
    )
    compare.add_argument(
        "--pool",
        choices=("matched", "all"),
        default="matched",
        help="matched (default): only runs that share hyper-parameters; all: average over them, marked as confounded",
    )
    compare.add_argument("--bootstraps", type=int, default=1000, help="draws behind intervals (default 1000)")
    compare.add_argument("--report", type=Path, default=None, metavar="PAGE.html", help="write the interactive page")
    compare.add_argument("--json", type=Path, default=None, metavar="VERDICT.json", help="write the verdict as data")
    compare.add_argument(
        "--figures",
        type=Path,
        default=None,
        metavar="PATH",
        help="write figures for a paper: into a folder, or on one sheet FILE.pdf (.svg, .png)",
    )
    compare.add_argument("--figure-format", choices=FIGURES, default=None, help="of a folder's figures (default pdf)")
    compare.set_defaults(command=_compare)

    backtest = _command(
        commands,
        "backtest",
        "fit up to each compute, predict beyond it: which law holds",
        "Fits every law to the cheaper runs and predicts the dearer ones: the errors, whether the bands held what they "
        "claim, and which ranking would have given the final order at which share of its compute.",
        "curate backtest results.csv --metric loss",
        "curate backtest --example gadre --law power chinchilla",
    )
    _result_options(backtest)
    backtest.add_argument(
        "--law", nargs="+", default=None, help="laws to try, after RESULTS (default: power2, power and chinchilla)"
    )
    backtest.add_argument("--json", type=Path, default=None, metavar="BACKTEST.json", help="write it as data")
    backtest.set_defaults(command=_backtest)

    plan = _command(
        commands,
        "plan",
        "which runs to do next so that the verdict is most likely decided",
        "From measurements, or from what you believe before there are any: the runs to add for a budget, and how "
        "likely the verdict is decided then.",
        "curate plan results.csv --budget 1e20 --scale 400M:4e8:8e9",
        "curate plan results.csv --budget 1e20 --looks 4 --json plan.json",
        "curate plan --noise .01 --gap-sd .03 --decide .02 --scale 150M:1.5e8:3e9 --scale 400M:4e8:8e9",
    )
    _result_options(plan)
    plan.add_argument("--budget", type=float, default=None, metavar="FLOPS", help="compute to spend, training only")
    plan.add_argument(
        "--target",
        type=float,
        default=None,
        metavar="FLOPS",
        help="compute at which to decide (default: the largest that all reach)",
    )
    plan.add_argument(
        "--scale",
        action="append",
        default=[],
        metavar="NAME:PARAMS:TOKENS",
        help="a scale that may be run, e.g. 150M:1.5e8:3e9, or with cooled-down branches 150M:1.5e8:1e9,3e9; repeat it "
        "(default: the scales of RESULTS)",
    )
    plan.add_argument("--max-seeds", type=int, default=8, help="most runs of one dataset at one scale (default 8)")
    plan.add_argument("--goal", choices=("order", "best"), default=None, help="decide every pair, or find the best")
    plan.add_argument("--json", type=Path, default=None, metavar="PLAN.json", help="write the plan as data")
    batches = plan.add_argument_group("batch after batch", "drop what is clearly worse, spend on what is undecided")
    batches.add_argument("--looks", type=int, default=None, help="how often the measurements are judged in all")
    batches.add_argument("--previous", type=Path, default=None, metavar="PLAN.json", help="the plan of the last batch")
    pilot = plan.add_argument_group("before anything was measured", "state what you believe, in the metric's unit")
    pilot.add_argument("--noise", type=float, default=None, metavar="SD", help="of one run over seeds")
    pilot.add_argument("--gap-sd", type=float, default=None, metavar="SD", help="of the gap between two datasets")
    pilot.add_argument("--datasets", type=int, default=2, metavar="N", help="how many are compared (default 2)")
    pilot.add_argument("--decide", type=float, default=None, metavar="GAP", help="the cheapest ladder that decides it")
    pilot.add_argument("--power", type=float, default=0.8, help="... with this probability (default .8)")
    plan.set_defaults(command=_plan)
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str, more: str, *examples: str
) -> argparse.ArgumentParser:
    """A command that explains itself at greater length, with examples."""
    return commands.add_parser(
        name,
        help=what,
        description=more,
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples),
        formatter_class=_Help,
    )


class _Help(argparse.RawDescriptionHelpFormatter):
    """Descriptions are wrapped, the examples at the end are not."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)


def _result_options(parser: argparse.ArgumentParser) -> None:
    """Where results come from: files of any known format, or a published example that ships."""
    parser.add_argument(
        "results",
        nargs="*",
        metavar="RESULTS",
        help="CSV or Parquet with dataset, metric, value and flops (or params and tokens); or files and folders that "
        "other tools wrote",
    )
    parser.add_argument("--example", default=None, metavar="NAME", help="published results: dclm, open-sci-ref, gadre")
    parser.add_argument(
        "--input-format",
        default="auto",
        metavar="FORMAT",
        help="of RESULTS: columns, lm_eval, dclm, open_clip, wandb, tensorboard (default: found by itself)",
    )
    parser.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="a column's name, e.g. params=n_params; of one column a metric: metric:loss=val_loss, or percent:acc=acc "
        "for an accuracy in percent; repeat it",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="constants",
        metavar="COLUMN=VALUE",
        help="one value for all rows, e.g. metric=loss; or runs_table=FILE, a row a run with the columns run, dataset, "
        "params, tokens; repeat it",
    )
    parser.add_argument(
        "--metric",
        default=None,
        help="what to compare by (default: the example's, or the only one); composite: all tasks, weighted by their "
        "measured signal; composite:acc: the tasks acc/*",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all random draws (default 0)")


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
    from curate.comparator import compare

    _check_outputs(options.json, options.report)
    if options.figures is not None and options.figures.is_file() and options.figures.suffix[1:].lower() not in FIGURES:
        raise CurateError(f"{options.figures}: is a file; name a folder for figures, or FILE.pdf, .svg or .png.")
    measurements, metric, at, law = _results(options)
    verdict = compare(
        measurements,
        metric=metric,
        at=options.at or at,
        law=options.law or law,
        seed=options.seed,
        bootstraps=options.bootstraps,
        pool=options.pool,
    )
    _say(verdict.lines)
    _say([f"note: {note}" for note in verdict.notes[:MOST_NOTES]])
    if len(verdict.notes) > MOST_NOTES:
        print(f"note: {len(verdict.notes) - MOST_NOTES} more, in --json and --report")
    if options.json:
        from curate.fingerprints import write_json

        write_json(options.json, verdict.to_dict())
        print(f"json    {options.json}")
    if options.report:
        from curate.report.page import write_comparison

        write_comparison(verdict, measurements, options.report)
        print(f"page    {options.report}")
    if options.figures:
        from curate.report.figures import write_figures

        of_folder = None if options.figures.suffix[1:].lower() in FIGURES else FIGURES[0]
        for path in write_figures(verdict, options.figures, format=options.figure_format or of_folder):
            print(f"figure  {path}")
    return 0


def _backtest(options: argparse.Namespace) -> int:
    from curate.comparator import backtest

    _check_outputs(options.json)
    measurements, metric, *_ = _results(options)
    found = backtest(measurements, metric=metric, laws=options.law, seed=options.seed)
    _say(found.lines)
    if options.json:
        from curate.fingerprints import write_json

        write_json(options.json, found.to_dict())
    return 0


def _plan(options: argparse.Namespace) -> int:
    from curate.comparator.planning.plan_options import planned

    _check_outputs(options.json)
    found = planned(
        None if options.noise is not None else _results(options)[:2],
        budget_flops=options.budget,
        target_flops=options.target,
        scales=options.scale,
        max_seeds=options.max_seeds,
        goal=options.goal,
        looks=options.looks,
        previous=options.previous,
        noise_sd=options.noise,
        gap_sd=options.gap_sd,
        datasets=options.datasets,
        decide_gap=options.decide,
        power=options.power,
        seed=options.seed,
    )
    _say(str(found).splitlines())
    if options.json:
        from curate.fingerprints import write_json

        write_json(options.json, found.to_dict())
    return 0


def _results(options: argparse.Namespace) -> "tuple[pa.Table, str, tuple[float, ...], str]":
    """The measurements that the options name, the metric, and the compute and the law that an example is about."""
    from curate.comparator import load_example, read_runs
    from curate.comparator.tables import headline_metric

    if bool(options.example) == bool(options.results):
        raise CurateError("Name files of results, or --example with dclm, open-sci-ref or gadre; one of the two.")
    if options.example:
        example = load_example(options.example)
        print(f"{example.name}: {example.source}")
        return example.table, options.metric or example.metric, example.at, example.law
    table = read_runs(
        options.results,
        format=options.input_format,
        columns=_assignments(options.columns, "--columns"),
        constants=_assignments(options.constants, "--set"),
    )
    return table, options.metric or headline_metric(table), (), "power"


def _check_outputs(*paths: Path | None) -> None:
    """Refuse, before the work, files that could not be written after it."""
    for path in paths:
        if path is not None and path.is_dir():
            raise CurateError(f"{path}: is a folder; name a file to write.")


def _assignments(words: list[str], option: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise CurateError(f"{option}: {name + equals + value!r} is not of the form name=value.")
    return {name: value for name, _, value in pairs}


def _say(lines: Iterable[str]) -> None:
    """Lines of a result; on a terminal, long ones are folded with an indent so that each stays one paragraph."""
    from curate.comparator.wording import printable

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in map(printable, lines):
        folded = textwrap.wrap(line, width, subsequent_indent="      ", break_long_words=False) if width > 40 else None
        print("\n".join(folded or [line]))


def _print(renderable: object) -> None:
    from rich.console import Console

    Console().print(renderable)


if __name__ == "__main__":
    sys.exit(main())
