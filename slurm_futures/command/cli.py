"""The command slurm-futures: reads options, prints what happens, decides the exit code.

    slurm-futures demo      an epidemic model over a grid of two parameters

It uses the library as any other program does; what it computes is in `demo`. Results go
to stdout, all that is said on the way to stderr.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING, Literal

from slurm_futures import SlurmExecutor, __version__
from slurm_futures.command import demo
from slurm_futures.errors import SchedulerError, SlurmFuturesError
from slurm_futures.schedulers.slurm import SlurmScheduler

if TYPE_CHECKING:
    from collections.abc import Sequence

Name = Literal["slurm", "local"]

#: Different errors that are printed in full.
_ERRORS_SHOWN = 3


def main(words: Sequence[str] | None = None) -> int:
    """Run the command with these words (None: those of the command line)."""
    options = _parser().parse_args(words)
    try:
        return run_demo(options)
    except SlurmFuturesError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; its jobs are cancelled.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slurm-futures",
        description="ProcessPoolExecutor on a Slurm cluster.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(
        commands.add_parser(
            "demo",
            help="simulate epidemics over a grid of two parameters",
            description="Simulate epidemics over a grid of two parameters, as Slurm "
            "jobs or on this machine, and draw how many people are infected.",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
    )
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    scheduler = parser.add_mutually_exclusive_group()
    for name, where in (("slurm", "as Slurm jobs"), ("local", "on this machine")):
        scheduler.add_argument(
            f"--{name}",
            dest="scheduler",
            action="store_const",
            const=name,
            default=argparse.SUPPRESS,
            help=f"run {where}, whether or not there is a Slurm cluster",
        )
    add = parser.add_argument
    add("--partition", default=argparse.SUPPRESS, help="of the Slurm jobs")
    add("--time", default=argparse.SUPPRESS, help="limit of each job, such as 5:00")
    add("--mem", default=argparse.SUPPRESS, help="memory of each job, such as 500M")
    add(
        "--points",
        type=_grid,
        default="12x8",
        metavar="COLUMNSxROWS",
        help="how many values of R0, and of the vaccinated share",
    )
    add("--seeds", type=_positive, default=40, help="epidemics at each point")
    add("--chunksize", type=_positive, default=4, help="points in each job")


def _grid(text: str) -> demo.Grid:
    columns, _, rows = text.partition("x")
    try:
        return demo.Grid(_positive(columns), _positive(rows))
    except ValueError:
        message = f"{text!r} is not a grid such as 12x8"
        raise argparse.ArgumentTypeError(message) from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def run_demo(options: argparse.Namespace) -> int:
    """Run the sweep, then draw it; 1 if a point failed."""
    given = vars(options)
    scheduler, reason = choose_scheduler(given.get("scheduler"))
    _say(reason)
    sbatch_options = {
        name: given[name] for name in ("partition", "time", "mem") if name in given
    }
    with SlurmExecutor(
        scheduler=scheduler, keep="always", progress=True, **sbatch_options
    ) as executor:
        found = demo.sweep(
            executor, options.points, seeds=options.seeds, chunksize=options.chunksize
        )
    print(demo.table(found), end="\n\n")
    print(demo.heat_map(found, demo.choose_ink(sys.stdout.encoding)))
    print(f"\nScripts, calls, logs and outcomes of the jobs: {executor.directory}")
    if not found.failures:
        return 0
    _say(f"{len(found.failures)} points failed:")
    errors = {f"{type(error).__name__}: {error}" for error in found.failures.values()}
    for text in sorted(errors)[:_ERRORS_SHOWN]:
        _say(text)
    return 1


def choose_scheduler(wanted: Name | None) -> tuple[Name, str]:
    """Return the scheduler that is wanted, else Slurm if it is there; and why.

    The library itself never makes this choice for its user; the demo does, and says so.
    """
    if wanted == "local":
        return "local", "Running on this machine, as --local says."
    if wanted == "slurm":
        return "slurm", "Running as Slurm jobs, as --slurm says."
    if shutil.which("sbatch") is None:
        return "local", "Running on this machine, since there is no sbatch."
    try:
        SlurmScheduler().query()
    except SchedulerError as error:
        facts = (error.stderr.strip() or str(error)).splitlines()[-1]
        return "local", f"Running on this machine, since squeue says: {facts}"
    return "slurm", "Running as Slurm jobs. To run on this machine: --local."


def _say(text: str) -> None:
    print(text, file=sys.stderr)
