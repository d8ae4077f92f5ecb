"""The files of a pool, from the client's side; `node/pool_worker.py` names them.

It never asks for a file that a node may not have written yet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from slurm_futures.node.formats import BLOCK_SIZE, WITHDRAWN, block_of
from slurm_futures.node.pool_worker import CLOSED
from slurm_futures.runs.files import is_there, remove_tree
from slurm_futures.runs.finished import FinishedDirectory
from slurm_futures.runs.job import clear_blocks, remove_outcome

#: Who takes calls away from the workers.
_CLIENT = "client"
#: How the name of a queue goes on of which only calls are left that failed.
KEPT_FAILED = "-failed"


class PoolDirectory:
    """The queue of a pool.

    Args:
        path: its directory.
        keep: "failed": what tells of calls that failed stays; "always": all does.
    """

    def __init__(self, path: Path, keep: str = "never") -> None:
        self.path = path
        self._keep = keep
        self._failed: set[int] = set()
        self.finished = FinishedDirectory(path / "finished")

    def create(self) -> None:
        """Make an empty queue."""
        self.path.mkdir(0o700)
        for name in ("queue", "claims", "finished"):
            (self.path / name).mkdir()

    def is_there(self) -> bool:
        """Whether the queue, which this program has made, still exists.

        Raises:
            OSError: nobody can tell now.
        """
        return is_there(self.path)

    def add_blocks(self, numbers: range) -> None:
        """Make the directories for new calls."""
        first = numbers.start // BLOCK_SIZE * BLOCK_SIZE
        for start in range(first, numbers.stop, BLOCK_SIZE):
            for kind in ("claims", "finished"):
                (self.path / kind / block_of(start)).mkdir(exist_ok=True)

    def is_emptied(self) -> bool:
        """Whether only what tells of calls is left that failed."""
        return self.path.name.endswith(KEPT_FAILED)

    def batches(self) -> list[range]:
        """Return the calls of each file in the queue.

        Raises:
            OSError: it cannot be listed now.
        """
        found = []
        for name in os.listdir(self.path / "queue"):
            first, _, count = name.partition("-")
            if first.isdigit() and count.isdigit():
                found.append(range(int(first), int(first) + int(count)))
        return sorted(found, key=lambda each: each.start)

    def batch(self, numbers: range) -> Path:
        """Return the calls file that holds these calls."""
        return self.path / "queue" / f"{numbers.start}-{len(numbers)}"

    def close(self) -> None:
        """Tell the workers that there will be no more calls."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "queue" / CLOSED).touch()

    def reopen(self) -> None:
        """Undo `close`; workers that have seen it end all the same."""
        (self.path / "queue" / CLOSED).unlink(missing_ok=True)

    def list_finished(self, blocks: Iterable[str]) -> set[int]:
        """Return the calls in these blocks that are over.

        Raises:
            OSError: a directory cannot be listed now.
        """
        return {number for number, rest in self.finished.entries(blocks) if not rest}

    def list_claims(self, blocks: Iterable[str]) -> set[int]:
        """Return the calls in these blocks that somebody has taken.

        Raises:
            OSError: a directory cannot be listed now.
        """
        return {
            int(name)
            for block in blocks
            for name in os.listdir(self.path / "claims" / block)
            if name.isdigit()
        }

    def claim(self, number: int) -> bool:
        """Claim a call for the client; return False if a worker has it already."""
        try:
            self._claim(number).symlink_to(_CLIENT)
        except FileExistsError:
            return False
        return True

    def reserve(self, number: int) -> bool:
        """Claim a call, unless a worker has it; on a full disk a look must do.

        So it must where NFS has sent the claim twice, since the answer was lost.
        """
        try:
            return self.claim(number) or self._is_ours(number)
        except OSError:
            return self.owner(number) is None

    def is_withdrawn(self, number: int) -> bool:
        """Whether the client has claimed a call, to cancel it."""
        with contextlib.suppress(OSError):
            return self._is_ours(number)
        return False

    def _is_ours(self, number: int) -> bool:
        return str(self._claim(number).readlink()) == _CLIENT

    def owner(self, number: int) -> str | None:
        """Return the worker that has taken a call that is listed as taken."""
        try:
            owner = str(self._claim(number).readlink())
        except OSError:
            return None
        return None if owner == _CLIENT else owner

    def is_free(self, number: int) -> bool:
        """Whether it is certain that nobody has a call that a worker had taken."""
        try:
            self._claim(number).readlink()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False

    def withdraw(self, number: int, owner: str) -> bool:
        """Cancel a call that a worker runs; return False if it is over already.

        A worker that is just about to begin finds a directory in the place of its
        outcomes.
        """
        own = Path(f"{self.finished.file(number)}.{owner}")
        withdrawn = Path(f"{own}{WITHDRAWN}")
        for _ in range(2):
            try:
                own.rename(withdrawn)
            except NotADirectoryError:  # that directory is there, and stays
                return True
            except FileNotFoundError:  # over, or just about to begin
                if self._is_finished(number):
                    return False
            else:
                return True
            try:
                withdrawn.touch()  # so that the directory cannot be renamed
                own.mkdir()
            except FileExistsError:  # it has begun
                continue
            except OSError:  # the disk is full
                pass
            break
        return not self._is_finished(number)  # it may have been quick

    def _is_finished(self, number: int) -> bool:
        return number in self.list_finished([block_of(number)])

    def _claim(self, number: int) -> Path:
        return self.path / "claims" / block_of(number) / str(number)

    def note_failure(self, number: int) -> None:
        """Note that a call has failed."""
        if self._keep == "failed":
            self._failed.add(number)

    def _may_remove(self, numbers: range) -> bool:
        return self._keep != "always" and self._failed.isdisjoint(numbers)

    def keep_failed(self) -> None:
        """Delete the pool at its end, but for what tells of calls that failed.

        That gets another place, where no worker finds it that lives on unseen.
        """
        if not self._failed:
            self.remove()
            return
        kept = self.path.with_name(f"{self.path.name}{KEPT_FAILED}")
        with contextlib.suppress(OSError):
            self.path.rename(kept)
            remove_tree(kept / "claims")
            names = set(map(str, self._failed))
            clear_blocks(kept / "finished", names, remove_outcome)
            left = PoolDirectory(kept)
            left.reopen()  # the mark that tells workers to end
            for numbers in left.batches():
                if self._failed.isdisjoint(numbers):
                    left.batch(numbers).unlink()

    def remove_batch(self, numbers: range) -> None:
        """Delete a calls file that nobody needs any more."""
        if self._may_remove(numbers):
            self.batch(numbers).unlink(missing_ok=True)

    def remove_block(self, block: str) -> None:
        """Delete what is left of calls that are all over.

        A worker that comes late can take a call whose claim has just been deleted, but
        not run it where there is no place for its outcomes any more. So the claims come
        last, and stay until the end of the pool where that place could not be deleted,
        or tells of a call that failed.
        """
        first = int(block.partition("-")[0])
        if not self._may_remove(range(first, first + BLOCK_SIZE)):
            return
        finished = self.finished.path / block
        remove_tree(finished)
        with contextlib.suppress(OSError):
            if block not in os.listdir(finished.parent):
                remove_tree(self.path / "claims" / block)

    def remove(self) -> None:
        """Delete the pool, in the same order."""
        remove_tree(self.finished.path)
        remove_tree(self.path)
