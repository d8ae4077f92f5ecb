"""How the calls of an executor stand: counted without a lock, by whoever changes it.

Threads of callers may be interrupted anywhere. So each future has a place in a list,
and whoever changes its state puts there, in one step, what holds from then on. That
may be done twice. Futures that are dropped have left their numbers.
"""

from __future__ import annotations

import itertools
from collections import Counter

#: Of the calls of a future: how many have a value, have failed, and were cancelled.
Fate = tuple[int, int, int]

OPEN, DONE, FAILED, CANCELLED = (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)

#: Places that are made at a time; too many do no harm.
_ROOM = 1000


class CallCounts:
    """The numbers of all calls; from any thread."""

    def __init__(self) -> None:
        self._slots = itertools.count()
        self._fates: list[Fate] = []

    def add(self) -> int:
        """Return the place of a new future."""
        return next(self._slots)

    def note(self, place: int, fate: Fate) -> None:
        """Note how the calls of a future stand now."""
        while True:
            try:
                self._fates[place] = fate
            except IndexError:
                self._fates.extend([OPEN] * (place - len(self._fates) + _ROOM))
            else:
                return

    def copy(self) -> list[Fate]:
        """Return how all of them stand at this moment, by their places.

        Those behind the end are open.
        """
        return self._fates.copy()


def add_up(fates: list[Fate]) -> list[int]:
    """Return how many calls have a value, have failed, and were cancelled."""
    kinds = Counter(fates).items()
    return [sum(fate[each] * count for fate, count in kinds) for each in range(3)]
