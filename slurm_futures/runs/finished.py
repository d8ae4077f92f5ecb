"""The outcomes of calls: the directory `finished` of a submission or of a pool.

`node/formats.py` says what lies there. All of it is found by listing.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from slurm_futures.node.formats import (
    INITIALIZER_FAILED,
    LINGERS,
    NOT_BEGUN,
    RAISED,
    USAGE,
    WITHDRAWN,
    block_of,
    read_outcomes,
)
from slurm_futures.runs.files import ForeignFileError, read_own

#: Position of a call in its job, kind and payload of its outcome, or of its usage.
Record = tuple[int, int, bytes]

#: Marks of the job, which are no outcomes.
DIED, ENDING, OVER = "died", "ending", "over"


#: For so many times what it took, a listing tells whether outcomes are there: who
#: cancels thousands of calls in a loop spends a small part of the time with listings.
_FRESH = 10


class FinishedDirectory:
    """What the calls of jobs, or of the entries of a queue, have left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listed: dict[str, tuple[float, set[int]]] = {}

    def has(self, number: int) -> bool:
        """Whether outcomes are there, as one look can tell; from any thread."""
        block = block_of(number)
        until, found = self._listed.get(block, (-math.inf, set()))
        began = time.monotonic()
        if began >= until:
            try:
                found = {each for each, rest in self.entries([block]) if not rest}
            except OSError:
                found = set()
            now = time.monotonic()
            self._listed[block] = now + _FRESH * (now - began), found
        return number in found

    def entries(self, blocks: Iterable[str]) -> Iterator[tuple[int, str]]:
        """Yield what lies in these blocks: a number, and what follows its dot.

        Raises:
            OSError: a block cannot be listed now.
        """
        for block in blocks:
            for name in os.listdir(self.path / block):
                number, _, rest = name.partition(".")
                if number.isdigit():
                    yield int(number), rest

    def list_all(self) -> dict[int, set[str]]:
        """Return what lies in all blocks: what follows the dot, for each number.

        Raises:
            OSError: it cannot be listed now.
        """
        found: dict[int, set[str]] = {}
        for number, rest in self.entries(os.listdir(self.path)):
            found.setdefault(number, set()).add(rest)
        return found

    def file(self, number: int) -> Path:
        """Return where the outcomes are when the calls are over."""
        return self.path / block_of(number) / str(number)

    def read(self, number: int) -> list[Record]:
        """Return the outcomes that are listed as complete.

        Raises:
            OSError: they cannot be read now, or belong to somebody else.
        """
        return self.read_ended(number)[0]

    def read_ended(self, number: int) -> tuple[list[Record], bool]:
        """Return the same, and whether the process may live on after them.

        Raises:
            OSError: they cannot be read now, or belong to somebody else.
        """
        content = read_own(self.file(number))
        return list(read_outcomes(content)), content.endswith(LINGERS)

    def read_left(self, number: int) -> list[Record]:
        """Return all that attempts have left which did not come to their end.

        Raises:
            OSError: it cannot be read now, or has just got another name.
        """
        records: list[Record] = []
        for path in sorted(self._attempts(number)):
            # A directory stands for an attempt that may not begin.
            with contextlib.suppress(ForeignFileError, IsADirectoryError):
                records += read_outcomes(read_own(path))
        return records

    def withdraw(self, number: int) -> bool:
        """Let no attempt begin any more calls; return whether there were any.

        Raises:
            OSError: they cannot be withdrawn now.
        """
        found = False
        for path in self._attempts(number):
            if path.suffix not in {"", WITHDRAWN}:
                with contextlib.suppress(FileNotFoundError):  # it is over
                    path.rename(f"{path}{WITHDRAWN}")
                    found = True
        return found

    def restore(self, number: int) -> None:
        """Let the attempts go on that were withdrawn.

        Raises:
            OSError: they cannot be given back now.
        """
        for path in self._attempts(number):
            if path.suffix == WITHDRAWN:
                path.rename(path.with_suffix(""))

    def _attempts(self, number: int) -> Iterator[Path]:
        """Yield the files with outcomes: those of each attempt, and the final one."""
        block = block_of(number)
        for each, rest in self.entries([block]):
            if each == number and not _is_mark(rest):
                name = f"{number}.{rest}" if rest else str(number)
                yield self.path / block / name


def _is_mark(rest: str) -> bool:
    return rest in {DIED, ENDING, OVER} or rest.startswith(RAISED)


def are_complete(records: Iterable[Record], size: int) -> bool:
    """Whether published outcomes tell of all calls of a job, so many."""
    told = set()
    for number, kind, _ in records:
        if kind in {NOT_BEGUN, INITIALIZER_FAILED}:
            return True
        if kind != USAGE:
            told.add(number)
    return len(told) == size
