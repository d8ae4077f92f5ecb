"""The line on stderr that `progress=True` shows: what counts the calls of an executor.

It is written when calls end, in the thread that settles them; on a terminal it is
rewritten in place, elsewhere (a log file) a line is added now and then.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TextIO

from slurm_futures.calls.future import ChunkFuture

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Seconds between two lines.
_ON_TERMINAL, _ELSEWHERE = 0.1, 30.0


class Progress:
    """Counts calls; all methods may be called from any thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        # None where the descriptor was closed when Python started.
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self._terminal = self._stream is not None and self._stream.isatty()
        self._lock = threading.Lock()  # who has it counts, and nobody waits for it
        self._news: deque[tuple[int, int, int]] = deque()  # what is not counted yet
        self._began_at = time.monotonic()
        self._written_at = -float("inf")
        self._total = self._done = self._failed = 0

    def watch(self, future: Future[Any], calls: int) -> None:
        """Count the calls of a new future, and count them again when it is done."""
        self._news.append((calls, 0, 0))
        future.add_done_callback(lambda done: self._count(done, calls))

    def _count(self, future: Future[Any], calls: int) -> None:
        failed = 0
        if future.cancelled() or future.exception() is not None:
            failed = calls
        elif isinstance(future, ChunkFuture):  # as a whole it has a result
            failed = sum(each.exception is not None for each in future.result())
        self._news.append((0, calls, failed))
        while self._news and self._lock.acquire(blocking=False):
            try:
                self._add_news()
                if self._is_due():
                    self._write()
            finally:
                self._lock.release()

    def _add_news(self) -> None:
        while self._news:
            new, done, failed = self._news.popleft()
            self._total += new
            self._done += done
            self._failed += failed

    def _is_due(self) -> bool:
        interval = _ON_TERMINAL if self._terminal else _ELSEWHERE
        late = time.monotonic() - self._written_at >= interval
        return late or self._done == self._total

    def _write(self) -> None:
        if self._stream is None:
            return
        self._written_at = time.monotonic()
        seconds = self._written_at - self._began_at
        failed = f", {self._failed} failed" if self._failed else ""
        line = f"{self._done}/{self._total} calls done{failed}, {seconds:.0f} s"
        if self._terminal:
            end = "\n" if self._done == self._total else ""
            self._stream.write(f"\r\x1b[K{line}{end}")
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()
