"""How long files are written again that a file system refuses: most errors pass."""

from __future__ import annotations

import logging
import time

from slurm_futures.errors import is_passing
from slurm_futures.jobs.timing import Timing

logger = logging.getLogger("slurm_futures")


class WritePatience:
    """The time for which nothing can be written; mostly there is none.

    Args:
        what: cannot be written, for the log.
        timing: how long to try.
    """

    def __init__(self, what: str, timing: Timing) -> None:
        self._what = what
        self._timing = timing
        self._since: float | None = None
        self._pause = timing.shortest_rewrite

    def pause(self, error: Exception) -> float | None:
        """Return seconds until the next try; None: it has failed for too long.

        What this process itself is short of has all the time there is.
        """
        now = time.monotonic()
        since = now if self._since is None else self._since
        pause = self._pause
        if not is_passing(error):
            rest = since + self._timing.grace - now
            if not isinstance(error, OSError) or rest <= 0:
                return None
            pause = min(pause, rest)
        if self._since is None:
            self._since = now
            logger.warning("%s later: %s", self._what, error)
        self._pause = min(2 * self._pause, self._timing.longest_rewrite)
        return pause

    def end(self) -> None:
        """Note that files can be written, or that other ones are."""
        self._since, self._pause = None, self._timing.shortest_rewrite
