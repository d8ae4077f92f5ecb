"""The command slurm-futures: reads options, prints errors, decides the exit code.

    slurm-futures demo      an example: epidemics over a grid of two parameters

Results go to stdout, all that is said on the way to stderr.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Literal

from slurm_futures import SlurmFuturesError, SlurmScheduler, __version__
from slurm_futures.command import demo

if TYPE_CHECKING:
    from collections.abc import Sequence

Name = Literal["slurm", "local"]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command with these words (None: those of the command line)."""
    options = vars(_parser().parse_args(words))
    command = options.pop("command")
    try:
        command(**options)
    except (SlurmFuturesError, OSError) as error:
        _say(_one_line(error))
        return 1
    except KeyboardInterrupt:
        _say("\nInterrupted; its jobs are cancelled.")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slurm-futures",
        description="ProcessPoolExecutor on a Slurm cluster.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(
        commands.add_parser(
            "demo",
            help="simulate epidemics over a grid of two parameters",
            description="Simulate epidemics over a grid of two parameters, as Slurm "
            "jobs or on this machine, and draw how many people are infected.",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            argument_default=argparse.SUPPRESS,
        )
    )
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=run_demo)
    scheduler = parser.add_mutually_exclusive_group()
    for name, where in (("slurm", "as Slurm jobs"), ("local", "on this machine")):
        scheduler.add_argument(
            f"--{name}",
            dest="scheduler",
            action="store_const",
            const=name,
            help=f"run {where}, whether or not there is a Slurm cluster",
        )
    add = parser.add_argument
    add("--partition", help="of the Slurm jobs")
    add("--time", help="limit of each job, such as 5:00")
    add("--mem", help="memory of each job, such as 500M")
    add(
        "--points",
        type=_grid,
        default="12x8",
        metavar="COLUMNSxROWS",
        help="how many values of R0, and of the vaccinated share",
    )
    add("--seeds", type=_positive, default=40, help="epidemics at each point")
    add("--chunksize", type=_positive, default=4, help="points in each job")


def _grid(text: str) -> tuple[int, int]:
    columns, _, rows = text.partition("x")
    try:
        return _positive(columns), _positive(rows)
    except ValueError:
        message = f"{text!r} is not a grid such as 12x8"
        raise argparse.ArgumentTypeError(message) from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def run_demo(scheduler: Name | None = None, **options: Any) -> None:
    """Run the example where it is wanted, else on Slurm if it is there."""
    demo.run(scheduler or _choose_scheduler(), **options)  # argparse knows the types


def _choose_scheduler() -> Name:
    """Choose Slurm if it answers, and say so.

    The library itself never makes this choice for its user.
    """
    try:
        SlurmScheduler().query()
    except SlurmFuturesError as error:
        _say(f"Running on this machine, without Slurm. {_one_line(error)}")
        return "local"
    _say("Running as Slurm jobs. To run on this machine: --local.")
    return "slurm"


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
