"""The command line: thin, no logic. Every command answers `--help`; heavy parts load when a command needs them.

Exit codes: 0 done, 2 an error that the message explains, 130 interrupted (run the same command again to go on).
"""

import argparse
import sys

from curate import __version__
from curate.commands import backtest, compare, plan, run, study, why
from curate.errors import CurateError

COMMANDS = (study, run, why, compare, backtest, plan)
"""The commands in the order in which `--help` lists them."""


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
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
