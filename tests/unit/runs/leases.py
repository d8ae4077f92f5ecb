"""Programs for the tests of leases; as a script, one that owns a run again and again.

    python -m tests.unit.runs.leases race RUN COUNT     own it so many times; -1: always
    python -m tests.unit.runs.leases hold RUN           own it; then, for each line of
                                                        stdin, print what `check` says

Nobody else may be in the race while one owns the run: the owner holds a lock that the
system takes back when a process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import sys
from dataclasses import replace
from pathlib import Path

from slurm_futures.errors import RunInUse, SlurmFuturesError
from slurm_futures.runs.lease import Lease, LeaseTimes
from slurm_futures.runs.program import Program

#: No time passes between looks, and a beat is due at once.
QUICK = LeaseTimes(beat=0, look=0, looks=5, grace=0)


def on_host(name: str) -> Program:
    """Return this program as it were on another host."""
    return replace(Program.this(), host=name, system=f"boot of {name}")


#: One that is dead, as anybody on this host can see; pids end below this.
DEAD = replace(Program.this(), pid=1 << 22, started=7)


def leave(run: Path, text: str, number: int = 1) -> Path:
    """Let somebody have taken a run."""
    run.joinpath("owner").mkdir(exist_ok=True)
    link = run / "owner" / str(number)
    link.symlink_to(text)
    return link


def names_in(run: Path) -> set[str]:
    """Return what lies where the leases are."""
    return {path.name for path in run.joinpath("owner").iterdir()}


def race(run: Path, count: int) -> None:
    """Own the run so many times, alone each time."""
    with (run / "lock").open("w") as lock:
        while count:
            try:
                lease = Lease.take(run)
            except RunInUse:
                continue
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if there are two
            lease.check()
            fcntl.flock(lock, fcntl.LOCK_UN)
            lease.release()
            count -= 1


def hold(run: Path) -> None:
    """Own the run, and check it when told to."""
    lease = Lease.take(run)
    print("owned", os.getpid(), flush=True)
    for _ in sys.stdin:
        try:
            lease.check()
            print("owned", os.getpid(), flush=True)
        except SlurmFuturesError as error:
            print(type(error).__name__, error, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "race":
        race(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        hold(Path(sys.argv[2]))
