"""Compiles tick.c, with which slurmctld looks for jobs and time limits more often."""

import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("tick.c")
_COMPILE_TIMEOUT = 60  #: seconds

#: Releases whose look at time limits can be called; others look every 30 s, untouched.
_KNOWN_TIME_LIMITS = {(22, 5)}


def tick_environment(
    directory: Path, tick_ms: int | None, version: tuple[int, int]
) -> dict[str, str]:
    """Make the variables with which slurmctld is to be started.

    Args:
        directory: Where to put the compiled library.
        tick_ms: Milliseconds; None: leave slurmctld alone.
        version: Slurm's release.

    Returns:
        Nothing when there is no C compiler: jobs start up to a second later then.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if tick_ms is None or compiler is None:
        return {}
    library = directory / "tick.so"
    if not library.exists():
        _compile(compiler, library, version)
    return {"LD_PRELOAD": str(library), "TICK_MS": str(tick_ms)}


def _compile(compiler: str, library: Path, version: tuple[int, int]) -> None:
    flags = ["-shared", "-fPIC", "-O2"]
    if version < (23, 2):
        flags.append("-DUSLEEP_ONLY")
    if version in _KNOWN_TIME_LIMITS:
        flags.append("-DTIME_LIMITS")
    subprocess.run(
        [compiler, *flags, "-o", str(library), str(_SOURCE), "-ldl"],
        check=True,
        timeout=_COMPILE_TIMEOUT,
    )
