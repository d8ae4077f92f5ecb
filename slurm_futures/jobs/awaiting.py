"""Calls that wait for the futures among their arguments.

All state belongs to the poller's thread, which goes on while a call waits here.
"""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from functools import partial
from typing import Any

from slurm_futures.calls.awaited import AwaitedRequest
from slurm_futures.calls.request import fail_requests
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.jobs.above import Above
from slurm_futures.jobs.poller import Poller
from slurm_futures.schedulers.sbatch_options import Kind


class Awaiting:
    """Lets requests run once the futures are done that their calls lack.

    Args:
        poller: its thread does everything.
        above: gets the requests that are complete.
    """

    def __init__(self, poller: Poller, above: Above) -> None:
        self._poller = poller
        self._above = above
        self._numbers = itertools.count()
        self._open: dict[int, tuple[Kind, str, AwaitedRequest]] = {}

    def put(self, kind: Kind, label: str, request: AwaitedRequest) -> None:
        """Let a request run as soon as it can; called from any thread."""
        self._poller.call(partial(self._begin, kind, label, request))
        self._poller.attend(self)

    # The poller's thread.

    def _begin(self, kind: Kind, label: str, request: AwaitedRequest) -> None:
        number = next(self._numbers)
        self._open[number] = kind, label, request
        look = partial(
            self._complete, number
        )  # a future keeps this as long as it lives

        def tell(_: Future[Any]) -> None:
            self._poller.call(look)  # this is whatever thread has settled it

        for each in request.missing():
            each.add_done_callback(tell)
        look()

    def _complete(self, number: int) -> None:
        if number not in self._open:
            return
        kind, label, request = self._open[number]
        if request.missing():
            return
        complete = request.complete()
        if complete.calls:
            self._above.resubmit(kind, label, complete)
        del self._open[number]

    @property
    def is_open(self) -> bool:
        """Whether calls wait that nobody has cancelled."""
        self._open = {
            number: entry
            for number, entry in self._open.items()
            if not entry[-1].future.done()
        }
        return bool(self._open)

    def look(self) -> bool:
        """Return False: what is complete is handed on at once."""
        return False

    def fail(self, error: SlurmFuturesError) -> None:
        """Fail all calls that wait."""
        waiting, self._open = self._open, {}
        fail_requests([request for _, _, request in waiting.values()], error)

    stop = fail
