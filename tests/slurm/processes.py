"""Processes, as /proc tells of them: whose they are, what they hold, how to end them.

A process that ended but was not waited for (a zombie) counts as ended: daemons have no
parent that waits for them where process 1 is not an init.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import becomes_true

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Marks:
    """How to recognise the processes that belong together.

    Daemons and slurmstepd hold files open below one of the paths, the log for example.
    What a job runs has all these variables in its environment (`NAME=value`).
    """

    paths: tuple[Path, ...]
    variables: frozenset[bytes]

    def match(self, pid: int) -> bool:
        """Tell whether this process is one of them."""
        return self._has_variables(pid) or self._holds_file(pid)

    def _has_variables(self, pid: int) -> bool:
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return False  # it ended, or it belongs to another user
        return self.variables <= set(environment.split(b"\0"))

    def _holds_file(self, pid: int) -> bool:
        for target in _open_files(pid):
            if any(target.is_relative_to(path) for path in self.paths):
                return True
        return False


def find(marks: Marks) -> set[int]:
    """Find all living processes with these marks, and all their descendants.

    Never this process: a test may well read a log.
    """
    parents = _parents()
    found = {pid for pid in parents if marks.match(pid)} - {os.getpid()}
    return found | descendants(found, parents)


def kill_all(processes: Callable[[], set[int]], timeout: float = 60) -> set[int]:
    """Send SIGKILL to all that are found, until none is found any more.

    They are stopped first, so that none lives to report the end of another: slurmctld
    hears nothing from a node that loses its power. Children are killed before their
    parents: the kernel continues stopped ones with SIGHUP when their parent is gone.

    Args:
        processes: Looked up anew each time, since they may start others meanwhile.
        timeout: Seconds.

    Returns:
        Those that are still there when the time is up: normally none.
    """
    left: set[int] = set()

    def none_left() -> bool:
        nonlocal left
        left = processes()
        send(left, signal.SIGSTOP)
        left |= processes()  # what they had started in the meantime
        send(sorted(left, reverse=True), signal.SIGKILL)
        return not left

    becomes_true(none_left, timeout)
    return left


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it ended by itself, which is what we wanted


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; a zombie does not."""
    stat = _stat(pid)
    return stat is not None and stat.state not in "ZX"


def children(pid: int) -> set[int]:
    """Find the children of a process, zombies among them: it has to wait for them."""
    return {child for child, stat in _stats() if stat.parent == pid}


def descendants(pids: set[int], parents: dict[int, int] | None = None) -> set[int]:
    """Find the living children of these processes, and theirs, and so on."""
    parents = _parents() if parents is None else parents
    found: set[int] = set()
    generation = pids
    while generation:
        generation = {p for p, parent in parents.items() if parent in generation}
        generation -= found
        found |= generation
    return found


def command_line(pid: int) -> str:
    """Tell what a process is, for messages; empty when it ended."""
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    parent: int


def _parents() -> dict[int, int]:
    return {pid: stat.parent for pid, stat in _stats() if stat.state not in "ZX"}


def _stats() -> Iterator[tuple[int, _Stat]]:
    for name in os.listdir(_PROC):
        if name.isdecimal():
            stat = _stat(int(name))
            if stat is not None:
                yield int(name), stat


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # proc(5): the command is in parentheses and may hold any character.
    state, parent = text.rpartition(")")[2].split()[:2]
    return _Stat(state, int(parent))


def _open_files(pid: int) -> Iterator[Path]:
    try:
        links = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return
    for link in links:
        try:
            yield link.readlink()
        except OSError:
            continue  # closed meanwhile
