"""The calls of a pool that are not over: who waits for them, and where they lie.

Tables only, no I/O. Their lock is a reentrant one: garbage collection may close an
iterator of results at any time, which cancels futures. It is never held while
anything else is called.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slurm_futures.node.formats import BLOCK_SIZE, block_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slurm_futures.calls.future import SlurmFuture
    from slurm_futures.jobs.track import Work

#: Workers go through the blocks in order: of those that none of them has begun only so
#: many are looked at each time, the next ones and, in turn, some others.
_AHEAD = 4


@dataclass(slots=True)
class Unit:
    """An entry of the queue that is not over: one call, or the chunk of a map.

    Attributes:
        owner: the worker that has taken it, as far as is known.
        taken_back_at: monotonic seconds when it was taken from a worker that is lost.
        finished_at: monotonic seconds when its outcomes were seen that cannot be read.
        unreadable_since: the same of those that a worker has not finished, and of all
            that may be there in a directory that cannot be listed.
    """

    work: Work
    owner: str | None = None
    taken_back_at: float | None = None
    finished_at: float | None = None
    unreadable_since: float | None = None


@dataclass(slots=True)
class _Block:
    """How many open units there are in a directory.

    Attributes:
        full: no more will come.
        begun: workers have taken some.
    """

    open: int = 0
    full: bool = False
    begun: bool = False


@dataclass(slots=True)
class _Batch:
    numbers: range
    open: int


class Units:
    """The open units of a pool by their numbers; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._units: dict[int, Unit] = {}
        self._numbers: dict[SlurmFuture[Any], set[int]] = {}
        self._blocks: dict[str, _Block] = {}
        self._batches: dict[int, _Batch] = {}
        self._batch_of: dict[int, int] = {}
        self._turn = 0  # which of the blocks that are not begun are looked at next

    def __len__(self) -> int:
        return len(self._units)

    def add(self, numbers: range, works: Iterable[Work]) -> None:
        """Take the units of a batch."""
        with self._lock:
            self._batches[numbers.start] = _Batch(numbers, len(numbers))
            for number, work in zip(numbers, works, strict=True):
                self._units[number] = Unit(work)
                self._numbers.setdefault(work.future, set()).add(number)
                self._batch_of[number] = numbers.start
                block = self._blocks.setdefault(block_of(number), _Block())
                block.open += 1
                block.full = number % BLOCK_SIZE == BLOCK_SIZE - 1

    def get(self, number: int) -> Unit | None:
        """Return a unit, unless it is over."""
        return self._units.get(number)

    def with_numbers(self) -> list[tuple[int, Unit]]:
        """Return all units."""
        with self._lock:
            return list(self._units.items())

    def numbers_of(self, future: SlurmFuture[Any]) -> list[int]:
        """Return the units of a future."""
        with self._lock:
            return list(self._numbers.get(future, ()))

    def any_waits(self, before: float = float("inf")) -> bool:
        """Whether there is a unit that no worker is known to have taken.

        Args:
            before: only those with lower numbers count.
        """
        with self._lock:
            return any(
                unit.owner is None and number < before
                for number, unit in list(self._units.items())
            )

    def owners(self) -> tuple[set[str], float]:
        """Return who has taken units, and the first one nobody is known to have."""
        owners, waiting = set(), float("inf")
        with self._lock:
            for number, unit in list(self._units.items()):
                if unit.owner is None:
                    waiting = min(waiting, number)
                else:
                    owners.add(unit.owner)
        return owners, waiting

    def note_begun(self, number: int) -> None:
        """Take that a worker has taken this unit."""
        with self._lock:
            if number in self._units:  # it may be cancelled right now
                self._blocks[block_of(number)].begun = True

    def choose_blocks(self) -> list[str]:
        """Return the directories to list now: a few, however many calls there are."""
        with self._lock:
            blocks = [each for each in self._blocks.items() if each[1].open]
        fresh = [name for name, block in blocks if not block.begun]
        others = fresh[_AHEAD:]
        self._turn = (self._turn + _AHEAD) % max(1, len(others))
        return [
            *(name for name, block in blocks if block.begun),
            *fresh[:_AHEAD],
            *others[self._turn : self._turn + _AHEAD],
        ]

    def forget(self, number: int) -> bool:
        """Take that a unit is over; return whether it was not so before."""
        with self._lock:
            unit = self._units.pop(number, None)
            if unit is None:
                return False
            numbers = self._numbers[unit.work.future]
            numbers.discard(number)
            if not numbers:
                del self._numbers[unit.work.future]
            self._blocks[block_of(number)].open -= 1
            self._batches[self._batch_of.pop(number)].open -= 1
            return True

    def take_all(self, before: float = float("inf")) -> list[Unit]:
        """Forget all units, or those with lower numbers than this; return them."""
        return [
            unit
            for number, unit in self.with_numbers()
            if number < before and self.forget(number)
        ]

    def take_done(self) -> tuple[list[str], list[range]]:
        """Forget the blocks and batches of which all units are over; return them."""
        with self._lock:
            blocks = [
                name
                for name, each in self._blocks.items()
                if each.full and each.open == 0
            ]
            batches = [each for each in self._batches.values() if each.open == 0]
            for name in blocks:
                del self._blocks[name]
            for each in batches:
                del self._batches[each.numbers.start]
        return blocks, [each.numbers for each in batches]
