"""`curate study` and `curate demo`: datasets x ladder -> verdict."""

import argparse
from pathlib import Path

from curate.commands.options import BUILTIN_ONLY, Commands, show, work_options
from curate.commands.watching import watched, watching_options


def add(commands: Commands) -> None:
    """Define the command."""
    demo = commands.add_parser("demo", help="the main job on data that ships: three recipes, a ladder, a verdict")
    demo.add_argument("--ladder", default=None, help="another ladder: a name (demo, laptop) or a YAML file")
    work_options(demo, "curate-demo")
    watching_options(demo)
    demo.set_defaults(command=_demo)

    study = commands.add_parser("study", help="datasets x ladder -> verdict, from a YAML file")
    study.add_argument("study", type=Path, metavar="STUDY.yaml")
    study.add_argument("--ladder", default=None, help="another ladder than the study names")
    study.add_argument("--builtin-only", action="store_true", help=BUILTIN_ONLY)
    work_options(study, "curate-work")
    watching_options(study)
    study.set_defaults(command=_study)


def _demo(options: argparse.Namespace) -> int:
    from curate.sample import study

    options.study = study()
    return _study(options)


def _study(options: argparse.Namespace) -> int:
    from curate.engine.executors import executor_for
    from curate.report.terminal import summary
    from curate.study import load_study, run_study

    study = load_study(options.study, ladder=options.ladder, builtin_only=getattr(options, "builtin_only", False))
    with watched(options) as (progress, listener):
        executor = executor_for(options.workers, options.ray)
        try:
            result = run_study(
                study,
                work=options.work,
                executor=executor,
                workers=options.workers,
                progress=progress,
                verify=options.verify,
                listener=listener,
                ray=options.ray,
            )
        finally:
            executor.close()
    show(summary(result.content))
    print(f"\nmeasurements  {result.folder / 'measurements.parquet'}\nverdict       {result.folder / 'verdict.json'}")
    print(f"page          {result.page}")
    return 0
