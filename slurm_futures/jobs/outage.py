"""A directory that cannot be listed: since when, and who hears of it."""

from __future__ import annotations

import logging

from slurm_futures.jobs.timing import Timing

logger = logging.getLogger("slurm_futures")


class Outage:
    """The time for which a directory cannot be listed; mostly there is none.

    Attributes:
        since: monotonic seconds of its beginning; None while all is well.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self._warn_at = 0.0

    def note(self, whose: str, now: float, error: OSError, timing: Timing) -> float:
        """Note that the directory cannot be listed; return since when.

        Args:
            whose: whose directory it is, for the log.
            now: monotonic seconds.
            error: what the system says.
            timing: when to warn.
        """
        if self.since is None:
            self.since = now
            self._warn_at = now + timing.unlisted_warning
        if now >= self._warn_at:
            self._warn_at = now + timing.unlisted_reminder
            logger.warning(
                "%s: its results cannot be looked for since %.0f s: %s",
                whose,
                now - self.since,
                error,
            )
        logger.debug("%s: %s", whose, error)
        return self.since

    def end(self) -> None:
        """Note that the directory can be listed."""
        self.since = None
