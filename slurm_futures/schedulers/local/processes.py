"""Starts the processes of a local job, and ends all of them.

What slurmd and slurmstepd do on a node. The script runs in a session of its own, so
that it outlives the client. A stop reaches every process that the job has started:
its session, all descendants, and (on Linux) those that left both, which are known by
a variable in their environment. Elsewhere it reaches the process group.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slurm_futures.errors import is_passing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

#: Seconds between SIGTERM and SIGKILL; KillWait, slurm.conf(5).
KILL_WAIT = 2.0

_DAY = 86_400.0  # seconds; poll(2) cannot wait for more than 24 of them

_MARK = "SLURM_FUTURES_LOCAL_JOB"
_PROC = Path("/proc")


class JobProcess:
    """The script of a job, running, and all the processes that it starts.

    One thread may `wait` for it, then `reap` it; any thread may `stop` it.

    Raises:
        OSError: the log cannot be opened or the command not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
    ) -> None:
        self._log = log
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        self._lock = threading.Lock()
        self._stop_ended = threading.Event()
        self._stopping = self._reaped = False
        name, _, value = self._mark.partition("=")
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command,
                env={**environment, name: value},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, timeout: float = math.inf) -> bool:
        """Wait until the script has ended; False after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._end_watch() as has_ended:
            while (remaining := deadline - time.monotonic()) > 0:
                if has_ended(min(remaining, _DAY)):
                    return True
        return False

    @contextmanager
    def _end_watch(self) -> Iterator[Callable[[float], bool]]:
        try:
            pidfd = os.pidfd_open(self._popen.pid)
        except (AttributeError, OSError):  # no Linux, or one before 5.3
            yield self._wait_in_turns
            return
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            yield lambda timeout: bool(poll.poll(timeout * 1000))
        finally:
            os.close(pidfd)

    def _wait_in_turns(self, timeout: float) -> bool:
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def reap(self) -> int:
        """End what the script has left behind; its return code.

        To be called when it has ended; returns when a stop that is under way is over.
        """
        with self._lock:
            if not self._stopping:
                # The pid is still ours, so this cannot hit somebody else's group.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._popen.pid, signal.SIGKILL)
                self._reaped = True
                return self._popen.wait()
        self._stop_ended.wait()
        return self._popen.wait()

    def stop(self, why: str) -> None:
        """End all processes, with SIGTERM first; return when none is left.

        Args:
            why: goes into the log.
        """
        with self._lock:
            if self._reaped or self._stopping:
                return
            self._stopping = True
        with suppress(OSError), self._log.open("a") as log:
            log.write(f"slurmstepd: error: *** {why} ***\n")
        try:
            self._signal_all(signal.SIGCONT, signal.SIGTERM)
            self._wait_until_gone()
            self._kill_the_rest()
        finally:
            self._stop_ended.set()

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + KILL_WAIT
        self.wait(KILL_WAIT)
        # Only orphans are left, which nobody can wait for: they are not our children.
        while time.monotonic() < deadline and self._signal_all(0):
            time.sleep(0.05)

    def _kill_the_rest(self) -> None:
        for _ in range(10):  # some may fork while we look
            if not self._signal_all(signal.SIGKILL):
                return
            time.sleep(0.02)

    def _signal_all(self, *signals: int) -> bool:
        """Send signals to all processes of the job; False if there are none."""
        try:
            pids = self._pids()
        except OSError:  # there is no /proc, or no file descriptor left
            return self._signal_group(*signals)
        for pid in pids:
            for number in signals:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        return bool(pids)

    def _signal_group(self, *signals: int) -> bool:
        try:
            for number in signals:
                os.killpg(self._popen.pid, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _pids(self) -> set[int]:
        """All processes of the job that are alive, as far as /proc tells."""
        processes = list(_list_processes())
        found = {
            process.pid
            for process in processes
            if process.session == self._popen.pid or _is_marked(process, self._mark)
        }
        while children := {p.pid for p in processes if p.parent in found} - found:
            found |= children
        return found & {process.pid for process in processes if process.alive}


class _Process(NamedTuple):
    pid: int
    state: str
    parent: int
    session: int

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"


def _list_processes() -> Iterator[_Process]:
    for name in os.listdir(_PROC):
        if name.isdecimal():
            try:
                yield _read_stat(int(name))
            except OSError as error:
                if is_passing(error):
                    raise
                # It has just ended.


def _read_stat(pid: int) -> _Process:
    stat = (_PROC / str(pid) / "stat").read_bytes()
    # The name of the program, in parentheses, may contain anything: proc(5).
    state, parent, _, session = stat[stat.rindex(b")") + 1 :].split()[:4]
    return _Process(pid, state.decode(), int(parent), int(session))


def _is_marked(process: _Process, mark: str) -> bool:
    try:
        environment = (_PROC / str(process.pid) / "environ").read_bytes()
    except OSError:  # it has ended, or belongs to somebody else
        return False
    return mark.encode() in environment.split(b"\0")
