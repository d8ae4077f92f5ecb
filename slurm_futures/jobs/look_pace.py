"""How often to look at files, and to ask the scheduler.

Looks follow each other after 1 % of the time since something last happened (0.05 s to
1 s), so that a result is noticed within 1 % of the time it took.
"""

from __future__ import annotations

import time
from collections import deque

#: Seconds between two looks at files: shortest, longest, and as a share of the time
#: since the last news; and how many times the duration of a look must pass till the
#: next one, which bounds the load on a slow file system.
_SHORTEST_LOOK, _LONGEST_LOOK, _LOOK_SHARE = 0.05, 1.0, 0.01
_LOOK_COST_FACTOR = 50
#: Seconds between two listings of the job directories, which tell what has started:
#: at least, and as a multiple of the delay between two looks.
_STARTED_INTERVAL, _STARTED_FACTOR = 0.5, 5
#: squeue is asked less often while its answers bring no change, up to this factor.
_LONGEST_QUERY_FACTOR = 12


class Pace:
    """When to look and to ask next; used by the poller's thread alone.

    Attributes:
        query_factor: times the poll interval until the scheduler is asked again.
        cost: seconds that the listings of this look have taken.
    """

    def __init__(self) -> None:
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
        """Take that the scheduler has answered, and whether it told anything new."""
        slower = min(self.query_factor * 1.5, _LONGEST_QUERY_FACTOR)
        self.query_factor = 1.0 if changed else slower

    def begin_look(self) -> bool:
        """Begin a look; return whether to find out also which jobs have started."""
        self.cost = 0.0
        now = time.monotonic()
        interval = max(_STARTED_INTERVAL, _STARTED_FACTOR * self.delay())
        due = now - self._started_look_at >= interval
        if due:
            self._started_look_at = now
        return due

    def note_cost(self, seconds: float) -> None:
        """Take what a listing has cost."""
        self.cost += seconds

    def end_look(self) -> None:
        """Take that all has been looked at."""
        self._costs.append(self.cost)

    def delay(self) -> float:
        """Return the seconds until the next look."""
        quiet = time.monotonic() - self._news_at
        delay = min(max(quiet * _LOOK_SHARE, _SHORTEST_LOOK), _LONGEST_LOOK)
        # The smallest of the last few: a hiccup does not make a file system slow.
        cost = min(self._costs, default=0.0) * _LOOK_COST_FACTOR
        return max(delay, min(cost, _LONGEST_LOOK))
