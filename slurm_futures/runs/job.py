"""The files of one job."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Set
from pathlib import Path

from slurm_futures.node.formats import read_mark
from slurm_futures.runs.files import read_tail, read_text

#: What a job leaves in its directory.
_JOB_FILES = ("started", "stdout", "stderr")


class JobDirectory:
    """Where one job leaves its files. It need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether the job has begun, found by listing.

        Raises:
            OSError: nobody can tell now.
        """
        block = self.path.parent
        with contextlib.suppress(FileNotFoundError):
            return block.name in os.listdir(
                block.parent
            ) and self.path.name in os.listdir(block)
        return False

    def node(self) -> str | None:
        """Return the host on which the last attempt at the job began."""
        with contextlib.suppress(OSError, IndexError):
            return read_mark(self.path / "started").split()[0]
        return None

    def attempt(self) -> int:
        """Return how often Slurm had restarted the job when its worker last began.

        Raises:
            OSError: nobody can tell now.
        """
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            return int(read_mark(self.path / "started").split()[2])
        return 0

    def stdout(self) -> str:
        """Return what the job has printed."""
        return read_text(self.path / "stdout")

    def stderr(self) -> str:
        """Return what the job has printed to stderr."""
        return read_text(self.path / "stderr")

    def stderr_tail(self) -> str:
        """Return the end of what the job has printed to stderr."""
        return read_tail(self.path / "stderr")


def remove_job(name: str, block: int) -> None:
    """Delete a job directory, which mostly holds just what one holds that ended well.

    Args:
        name: of the directory.
        block: descriptor of the directory in which it lies.
    """
    try:
        for file in _JOB_FILES:
            os.unlink(f"{name}/{file}", dir_fd=block)
        os.rmdir(name, dir_fd=block)
    except OSError:
        with contextlib.suppress(OSError):  # of fstat, which is not ignored
            shutil.rmtree(name, ignore_errors=True, dir_fd=block)


def remove_outcome(name: str, block: int) -> None:
    """Delete what tells how a job went, mostly a file; the rest as for `remove_job`."""
    try:
        os.unlink(name, dir_fd=block)
    except OSError:
        with contextlib.suppress(OSError):  # of fstat, which is not ignored
            shutil.rmtree(name, ignore_errors=True, dir_fd=block)


def clear_blocks(
    directory: Path, kept: Set[str], remove: Callable[[str, int], None]
) -> None:
    """Delete what lies in the blocks of a directory, and blocks that are empty then.

    Args:
        directory: holds the blocks.
        kept: the numbers of what stays.
        remove: deletes one, given its name and the descriptor of its block.
    """
    with contextlib.suppress(OSError):
        for block in _remove_blocks(directory):
            for name in os.listdir(block):
                if name.partition(".")[0] not in kept:
                    remove(name, block)


def _remove_blocks(directory: Path) -> Iterator[int]:
    """Yield a descriptor of each block; delete those that are empty then."""
    with os.scandir(directory) as blocks:
        for block in blocks:
            descriptor = os.open(block, os.O_RDONLY | os.O_DIRECTORY)
            try:
                yield descriptor
            finally:
                os.close(descriptor)
            with contextlib.suppress(OSError):
                Path(block).rmdir()
