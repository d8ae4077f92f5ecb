"""The calls of a pool that are not over: who waits for them, and where they lie.

Tables only, no I/O. Their lock is a reentrant one: garbage collection may close an
iterator of results at any time, which cancels futures. It is never held while
anything else is called.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.jobs.open_calls import OpenCalls
from slurm_futures.node.formats import BLOCK_SIZE, block_of
from slurm_futures.runs.queue import PoolDirectory

#: Workers go through the blocks in order: of those that none of them has begun only so
#: many are looked at each time, the next ones and, in turn, some others.
_AHEAD = 4


@dataclass(slots=True, eq=False, kw_only=True)
class Entry(OpenCalls):
    """An entry of the queue that is not over: one call, or the chunk of a map.

    Attributes:
        number: of the entry in the queue.
        entries: those that it belongs to.
        queue: where it lies.
        owner: the worker that has claimed it, as far as is known.
        has_job: whether its future knows the job of that worker.
        withdrawn_at: monotonic seconds when it was withdrawn from a lost worker.
        finished_at: monotonic seconds when its outcomes were seen that cannot be read,
            or whose job is not known yet.
        unreadable_since: the same of those that a worker has not finished, and of all
            that may be there in a directory that cannot be listed.
    """

    number: int
    entries: OpenEntries
    queue: PoolDirectory
    owner: str | None = None
    has_job: bool = False
    withdrawn_at: float | None = None
    finished_at: float | None = None
    unreadable_since: float | None = None

    def note_failure(self) -> None:
        """Let its files be kept, if those of calls that failed are."""
        self.queue.note_failure(self.number)

    def release(self) -> None:
        """Note that it is over."""
        self.entries.forget(self.number)


@dataclass(slots=True)
class _Block:
    """How many open entries there are in a directory.

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


class OpenEntries:
    """The open entries of a pool by their numbers; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entries: dict[int, Entry] = {}
        self._numbers: dict[SlurmFuture[Any], set[int]] = {}
        self._blocks: dict[str, _Block] = {}
        self._batches: dict[int, _Batch] = {}
        self._batch_of: dict[int, int] = {}
        self._turn = 0  # which of the blocks that are not begun are looked at next

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, numbers: range, entries: Iterable[Entry]) -> None:
        """Add the entries of a batch."""
        with self._lock:
            self._batches[numbers.start] = _Batch(numbers, len(numbers))
            for number, entry in zip(numbers, entries, strict=True):
                self._entries[number] = entry
                self._numbers.setdefault(entry.future, set()).add(number)
                self._batch_of[number] = numbers.start
                block = self._blocks.setdefault(block_of(number), _Block())
                block.open += 1
                block.full = number % BLOCK_SIZE == BLOCK_SIZE - 1

    def get(self, number: int) -> Entry | None:
        """Return a entry, unless it is over."""
        return self._entries.get(number)

    def with_numbers(self) -> list[tuple[int, Entry]]:
        """Return all entries."""
        with self._lock:
            return list(self._entries.items())

    def numbers_of(self, future: SlurmFuture[Any]) -> list[int]:
        """Return the entries of a future; without the lock, since callers ask, too."""
        return list(self._numbers.get(future, ()))

    def any_waits(self, before: float = float("inf")) -> bool:
        """Whether there is a entry that no worker is known to have taken.

        Args:
            before: only those with lower numbers count.
        """
        with self._lock:
            return any(
                entry.owner is None and number < before
                for number, entry in list(self._entries.items())
            )

    def owners(self) -> tuple[set[str], float]:
        """Return who has taken entries, and the first one nobody is known to have."""
        owners, waiting = set(), float("inf")
        with self._lock:
            for number, entry in list(self._entries.items()):
                if entry.owner is None:
                    waiting = min(waiting, number)
                else:
                    owners.add(entry.owner)
        return owners, waiting

    def note_begun(self, number: int) -> None:
        """Note that a worker has taken this entry."""
        with self._lock:
            if number in self._entries:  # it may be cancelled right now
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
        """Note that a entry is over; return whether it was not so before."""
        with self._lock:
            entry = self._entries.pop(number, None)
            if entry is None:
                return False
            numbers = self._numbers[entry.future]
            numbers.discard(number)
            if not numbers:
                del self._numbers[entry.future]
            self._blocks[block_of(number)].open -= 1
            self._batches[self._batch_of.pop(number)].open -= 1
            return True

    def take_all(self, before: float = float("inf")) -> list[Entry]:
        """Forget all entries, or those with lower numbers than this; return them."""
        return [
            entry
            for number, entry in self.with_numbers()
            if number < before and self.forget(number)
        ]

    def take_done(self) -> tuple[list[str], list[range]]:
        """Forget the blocks and batches of which all entries are over; return them."""
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
