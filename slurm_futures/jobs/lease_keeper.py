"""The thread that keeps the lease of a run: programs elsewhere see that this one lives.

It is the only thread of an idle executor, and a daemon: the end of the program does
not wait for it. A program that hangs at its end, with nothing left to do, keeps no
other one from its run.
"""

from __future__ import annotations

import contextlib
import queue

from slurm_futures.jobs.program_end import program_ends
from slurm_futures.jobs.threads import ThreadGroup, WorkThread, take_all
from slurm_futures.runs.lease import Lease


class LeaseKeeper:
    """Lets a lease beat until it is given back or lost.

    Args:
        lease: that of the run.
        group: knows whether anybody is at work in the run.
    """

    def __init__(self, lease: Lease, group: ThreadGroup) -> None:
        self.lease = lease
        self._group = group
        # In no group: it waits for work of others, and nobody for it.
        self._thread: WorkThread[None] = WorkThread(
            self._run, "slurm_futures-lease", daemon=True
        )

    def start(self) -> bool:
        """Begin; False if no thread can be started: then call it again."""
        return self._thread.start()

    def release(self) -> None:
        """Give the lease back, and let the thread end; more than once does no harm."""
        self.lease.release()
        if self._thread.exists:
            self._thread.put(None)

    def _run(self) -> None:
        while self._is_needed() and (pause := self.lease.beat()) is not None:
            with contextlib.suppress(queue.Empty):
                self._thread.inbox.get(timeout=pause)
        take_all(self._thread.inbox)

    def _is_needed(self) -> bool:
        return not program_ends() or not self._group.is_idle()
