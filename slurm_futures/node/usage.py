"""Measures what a call uses: time, CPU and memory, where it runs.

Of memory the system tells the highest that a process has ever had. For the first call
of a process that is its own. Before later ones it begins anew, as Linux can let it
(/proc/self/clear_refs); where that fails, only a call that exceeds the highest so far
is known to have had it. Children count when they are waited for: of these the system
tells the highest of all, which is this call's if it has risen.

A worker of a pool may run thousands of calls a second. So of short calls only the time
is measured, but for the first. They have no time to take much memory, either.
"""

from __future__ import annotations

import os
from time import monotonic, process_time, time  # a call may replace those of `time`

from .formats import HAD_CHILDREN, USAGE_NUMBERS
from .modules import import_ours

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import Any

#: Seconds: of what is shorter only the time is measured.
_SHORT = 0.001
#: KiB: so much more or less is no news.
_SLACK = 1024


def node_name() -> str:
    """Return what Slurm calls this node, or the name that it has."""
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename


class Meter:
    """Measures the calls of this process, one after another."""

    def __init__(self) -> None:
        self._made = monotonic()
        self._node = node_name().encode("utf-8", "surrogateescape")
        self._is_first = True
        self._getrusage: Any = None  # of `resource`, once that is imported
        self._of_children = 0
        self._can_forget: bool | None = None  # None: that is not known yet
        self._is_raised = False  # whether the highest so far may be a call's
        self._base = 0  # KiB, the highest when it last began anew
        self._children = 0.0, 0  # what was read of them last

    def begin(self) -> None:
        """Note that a call begins."""
        if self._is_first:
            self._children = self._read_children()
            if self._children[0]:  # of the initializer
                self._import_resource()
                self._children = self._read_children()
        elif self._is_raised:
            self._forget_highest()
        self._started_at = time()
        self._began = monotonic()
        self._cpu = process_time()

    def end(self) -> bytes:
        """Return what the call has used that began last, as `formats.py` has it."""
        cpu = process_time() - self._cpu
        ended = monotonic()
        elapsed = ended - self._began
        memory = flags = 0
        if elapsed > _SHORT or self._is_first:
            memory = self._find_highest()
            used_before, highest_before = self._children
            self._children = used, highest = self._read_children()
            if used > used_before:
                flags = HAD_CHILDREN
                cpu += used - used_before
                if highest > (memory or self._base):  # else it matters not whose it is
                    memory = highest if highest > highest_before else 0
            self._is_raised = True
            self._is_first = False
        numbers = self._started_at, elapsed, cpu, ended - self._made, memory << 10
        return USAGE_NUMBERS.pack(*numbers, flags) + self._node

    def _find_highest(self) -> int:
        """Return the highest KiB of this process in the call; 0: not known."""
        if self._is_first:
            if os.times()[2:4] != (0, 0):  # of children
                self._import_resource()
            return _read_kib(b"VmHWM:")
        if not self._getrusage:
            return 0
        highest: int = self._getrusage(0).ru_maxrss
        is_known = self._can_forget or highest > self._base + _SLACK
        return highest if is_known else 0

    def _read_children(self) -> tuple[float, int]:
        """Return seconds of CPU and the highest KiB of all that were waited for."""
        if self._getrusage:
            usage = self._getrusage(self._of_children)
            return usage.ru_utime + usage.ru_stime, usage.ru_maxrss
        times = os.times()
        return times.children_user + times.children_system, 0

    def _import_resource(self) -> None:
        """Import what few jobs need: those with several calls, or with children."""
        if self._getrusage is None:
            try:
                resource = import_ours("resource")
            except ImportError:  # a Python without it
                self._getrusage = False
            else:
                self._getrusage = resource.getrusage
                self._of_children = resource.RUSAGE_CHILDREN

    def _forget_highest(self) -> None:
        """Let the system begin anew with the highest, if it can do so."""
        self._import_resource()
        self._is_raised = False
        if self._can_forget is not False and not _clear():
            self._can_forget = False
        if not self._getrusage:
            return
        self._children = self._read_children()
        self._base = self._getrusage(0).ru_maxrss
        if self._can_forget is None:
            # It is that of another program where one has become this process.
            self._can_forget = self._base <= _read_kib(b"VmRSS:") + _SLACK


def _clear() -> bool:
    try:
        file = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:  # not Linux, or not allowed
        return False
    try:
        os.write(file, b"5")
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _read_kib(name: bytes) -> int:
    """Return a figure of the memory of this process; 0: it is not known."""
    try:
        file = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # not Linux, or no descriptor is left
        return 0
    try:
        text = os.read(file, 1 << 14)
    except OSError:
        return 0
    finally:
        os.close(file)
    words = text.partition(name)[2].split(None, 1)
    return int(words[0]) if words else 0
