"""How often to look at files, and to ask the scheduler.

Looks follow each other after 1 % of the time since something last happened (0.05 s to
1 s), so that a result is noticed within 1 % of the time it took.
"""

from __future__ import annotations

import time
from collections import deque

from slurm_futures.jobs.timing import Timing


class LookPace:
    """When to look and to ask next; used by the poller's thread alone.

    Args:
        timing: bounds of the times between looks, and between queries.

    Attributes:
        query_factor: times the poll interval until the scheduler is asked again.
        cost: seconds that the listings of this look have taken.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.query_factor = 1.0
        self.cost = 0.0
        self._news_at = time.monotonic()
        self._costs: deque[float] = deque(maxlen=4)
        self._started_look_at = 0.0

    def note_news(self) -> None:
        """Look often again: something has happened, or will soon."""
        self._news_at = time.monotonic()

    def expect_change(self) -> None:
        """Look and ask often again."""
        self.note_news()
        self.query_factor = 1.0

    def note_answer(self, *, changed: bool) -> None:
        """Note that the scheduler has answered, and whether it told anything new."""
        slower = min(self.query_factor * 1.5, self._timing.longest_query_factor)
        self.query_factor = 1.0 if changed else slower

    def begin_look(self) -> bool:
        """Begin a look; return whether to find out also which jobs have started."""
        self.cost = 0.0
        now = time.monotonic()
        interval = max(
            self._timing.started_interval, self._timing.started_factor * self.delay()
        )
        due = now - self._started_look_at >= interval
        if due:
            self._started_look_at = now
        return due

    def note_cost(self, seconds: float) -> None:
        """Note what a listing has cost."""
        self.cost += seconds

    def end_look(self) -> None:
        """Note that all has been looked at."""
        self._costs.append(self.cost)

    def delay(self) -> float:
        """Return the seconds until the next look."""
        quiet = time.monotonic() - self._news_at
        delay = min(
            max(quiet * self._timing.look_share, self._timing.shortest_look),
            self._timing.longest_look,
        )
        # The smallest of the last few: a hiccup does not make a file system slow.
        cost = min(self._costs, default=0.0) * self._timing.look_cost_factor
        return max(delay, min(cost, self._timing.longest_look))
