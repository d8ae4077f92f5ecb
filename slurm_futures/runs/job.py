"""The files of one job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from slurm_futures.node.formats import GIVEN_UP, read_mark
from slurm_futures.runs.files import ForeignFileError, read_own, read_tail, read_text

#: What a job leaves in its directory.
_JOB_FILES = ("started", "stdout", "stderr", "outcomes")


class JobDirectory:
    """Where one job leaves its files. It need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_outcomes(self) -> bytes:
        """Return the outcomes of a job that has finished.

        Raises:
            OSError: they are not there, or belong to somebody else.
        """
        return read_own(self.path / "outcomes")

    def read_partial_outcomes(self) -> Iterator[bytes]:
        """Yield what each attempt at a job that was cut short has left.

        Raises:
            OSError: it cannot be read now, or has just got another name.
        """
        if not self.exists():
            return
        for name in sorted(os.listdir(self.path)):
            if name.startswith("outcomes"):
                with contextlib.suppress(ForeignFileError):
                    yield read_own(self.path / name)

    def give_up(self) -> None:
        """Tell a job that may still run to begin no more calls.

        Raises:
            OSError: the file cannot be made now.
        """
        (self.path / GIVEN_UP).touch()

    def take_back(self) -> None:
        """Let a job go on that was told to begin no more calls.

        Raises:
            OSError: the file cannot be removed now.
        """
        (self.path / GIVEN_UP).unlink(missing_ok=True)

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
        """Return how often Slurm had restarted the job when its worker last began."""
        with contextlib.suppress(OSError, IndexError, ValueError):
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
    """Delete a job directory if it holds just what one holds that ended well."""
    with contextlib.suppress(OSError):
        for file in _JOB_FILES:
            os.unlink(f"{name}/{file}", dir_fd=block)
        os.rmdir(name, dir_fd=block)
