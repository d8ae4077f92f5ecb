"""Which program this is, so that others can tell whether it lives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Program:
    """What tells a program from all others, on any host.

    Attributes:
        host: the name of it.
        system: within which a pid means one process; empty if nobody can tell.
        user: whose it is: programs of others may be hidden.
        pid: of its process.
        started: when that began, in ticks since the boot; 0 if nobody can tell.
    """

    host: str
    system: str
    user: int
    pid: int
    started: int

    @classmethod
    def this(cls) -> Program:
        """Return the one that asks."""
        pid = os.getpid()
        system = _find_system()
        started = find_start(pid) or 0 if system else 0
        return cls(os.uname().nodename, system, os.geteuid(), pid, started)

    def knows(self, other: Program) -> bool:
        """Whether it sees of the pid of another one if that lives."""
        ours = (self.host, self.system, self.user)
        return bool(self.system) and ours == (other.host, other.system, other.user)


def _find_system() -> str:
    """Name the boot and the namespaces in which pids and ticks count."""
    me = Path("/proc/self")
    try:
        if str(me.readlink()) != str(os.getpid()):  # this /proc is of another one
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        spaces = [
            str(path.readlink())
            for path in sorted(me.joinpath("ns").iterdir())
            if path.name in {"pid", "time"}
        ]
    except OSError:  # no Linux
        return ""
    return " ".join([boot, *spaces])


def find_start(pid: int) -> int | None:
    """Return when a process began, in ticks since the boot; None: it is dead."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Behind the name, which may hold anything; see proc(5).
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])
