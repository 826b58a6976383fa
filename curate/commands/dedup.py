"""`curate dedup`: dumps into an index, what is in it, and out of it again."""

import argparse
from pathlib import Path

from curate.commands.options import BUILTIN_ONLY, Commands, command, place, say, show, work_options


def add(commands: Commands) -> None:
    """Define the command and what it can do."""
    dedup = command(
        commands,
        "dedup",
        "an index of earlier dumps, against which a new one is deduplicated",
        "Keeps what minhash or exact know of the documents of earlier dumps, so that a new dump is compared with all "
        "of them without computing anything of theirs again: `minhash: {preset: fineweb, against: index, dump: d2}`.",
        "curate dedup index d1.yaml --to index --dump d1",
        "curate dedup list index",
        "curate dedup withdraw index d1",
    )
    actions = dedup.add_subparsers(required=True, metavar="ACTION")
    _add_index(actions)
    listed = command(
        actions,
        "list",
        "the dumps of an index",
        "Names the dumps, the oldest first, and checks that their files are there with their sizes.",
        "curate dedup list index --verify",
    )
    listed.add_argument("index", type=place, metavar="INDEX", help="the folder of the index")
    listed.add_argument("--verify", action="store_true", help="hash all files again")
    listed.set_defaults(command=_list)
    gone = command(
        actions,
        "withdraw",
        "take a dump out of an index",
        "Deletes what the index knows of a dump. Documents of other dumps that had left for one of its are counted and "
        "written to a file: run their recipes again to have back those that have no other double.",
        "curate dedup withdraw index d1 --ids back.parquet",
    )
    gone.add_argument("index", type=place, metavar="INDEX", help="the folder of the index")
    gone.add_argument("dump", metavar="DUMP", help="its name")
    gone.add_argument(
        "--ids", type=place, default=None, metavar="FILE.parquet", help="default INDEX/withdrawn-DUMP.parquet"
    )
    gone.set_defaults(command=_withdraw)


def _add_index(actions: Commands) -> None:
    index = command(
        actions,
        "index",
        "add a dump",
        "Of a recipe: what its minhash or exact step found, after running what of it is not finished. Of Parquet files "
        "(columns id and text): all their documents, as kept; only their signatures are computed.",
        "curate dedup index d1.yaml --to index --dump d1",
        "curate dedup index d2.yaml",
        "curate dedup index old/*.parquet --to index --dump old --step 'minhash: {preset: fineweb}'",
    )
    index.add_argument("sources", nargs="+", metavar="RECIPE.yaml|FILE.parquet", help="one recipe, or Parquet files")
    index.add_argument("--to", type=place, default=None, metavar="INDEX", help="default: what the step is held against")
    index.add_argument("--dump", default=None, metavar="NAME", help="its name; default: the step's `dump`")
    index.add_argument(
        "--step",
        default=None,
        metavar="STEP",
        help="which step of a recipe that has several; of Parquet files, for the first dump: how to compare them, as "
        "in a recipe",
    )
    index.add_argument("--source", default=None, help="read these files instead of the recipe's")
    index.add_argument("--builtin-only", action="store_true", help=BUILTIN_ONLY)
    work_options(index, "curate-work")
    index.set_defaults(command=_index)


def _index(options: argparse.Namespace) -> int:
    from curate.engine.executors import executor_for
    from curate.engine.indexing import index_parquet, index_recipe, step_of_text
    from curate.engine.recipe import load_recipe
    from curate.engine.run import Engine
    from curate.errors import InputError

    recipes = [name for name in options.sources if name.endswith((".yaml", ".yml"))]
    if recipes and len(options.sources) > 1:
        raise InputError("Name one recipe, or Parquet files: each recipe is a dump of its own.")
    executor = executor_for(options.workers, options.ray)
    try:
        engine = Engine(options.work, executor, verify=options.verify)
        if recipes:
            recipe = load_recipe(Path(recipes[0]), source=options.source, builtin_only=options.builtin_only)
            done = index_recipe(recipe, engine, to=options.to, name=options.dump, step=options.step)
        else:
            if options.to is None or options.dump is None:
                raise InputError("Name the index with --to and the dump with --dump: Parquet files do not say them.")
            step = step_of_text(options.step) if options.step else None
            done = index_parquet(options.sources, engine, to=options.to, name=options.dump, step=step)
    finally:
        executor.close()
    dump = done.dump
    lines = [
        f"dump {dump.name}: {dump.documents:,} documents in {done.index.folder}"
        + ("" if done.new else ", where they were already")
    ]
    if dump.removed_for_older:
        lines.append(f"{dump.removed_for_older:,} had left for documents of older dumps")
    if done.not_compared:
        lines.append(f"not compared with older dumps: {', '.join(done.not_compared)}")
    say(lines)
    return 0


def _list(options: argparse.Namespace) -> int:
    from rich.text import Text

    from curate.dedup.index import load_index
    from curate.engine.indexing import check_index
    from curate.report.numbers import size
    from curate.report.terminal import plain, plain_table

    index = load_index(options.index)
    if not index.dumps:
        print(f"{index.folder}: no dumps")
        return 0
    made_with = ", ".join(f"{name} {value}" for name, value in index.made_with.items() if value is not None)
    heads = ("dump", "documents", "parts", "bytes", "left for older dumps", "compared with")
    title = Text.assemble((str(index.folder), "bold"), (f"  {made_with}", "dim"))
    shown = plain_table(title, *heads, left=(0, 5))
    for dump in index.dumps:
        numbers = (f"{dump.documents:,}", f"{dump.parts:,}", size(dump.all_bytes), f"{dump.removed_for_older:,}")
        shown.add_row(plain(dump.name, 40), *numbers, plain(", ".join(dump.compared_with) or "-", 60))
    show(shown)
    check_index(index, verify=options.verify)
    return 0


def _withdraw(options: argparse.Namespace) -> int:
    from curate.engine.indexing import withdraw

    done = withdraw(options.index, options.dump, ids=options.ids)
    lines = [f"{options.dump} is withdrawn; {len(done.index.dumps)} dumps are left in {done.index.folder}"]
    for name, count in done.removed.items():
        lines.append(f"{count:,} documents of {name} had left for one of its")
    if done.ids is not None:
        lines.append(f"ids    {done.ids}")
    say(lines)
    return 0
