"""Where a worker leaves what its calls have left; `formats.py` describes the file."""

from __future__ import annotations

import os
import time

from .formats import LOOK_INTERVAL, block_of, pack_outcome, write_all


class OutcomesFile:
    """The outcomes of the calls of one job, or of one entry of a pool's queue.

    Args:
        root: the directory of the submission or the pool.
        number: of the job or the entry.
        name: of this attempt, which no other one has.

    Raises:
        FileNotFoundError: the client has cleaned up.
        IsADirectoryError: the client does not want this attempt to begin.
    """

    def __init__(self, root: str, number: int, name: str) -> None:
        self._final = f"{root}/finished/{block_of(number)}/{number}"
        self._own = f"{self._final}.{name}"
        self._pid = os.getpid()
        self._looked_at = time.monotonic()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(self._own, flags, 0o600)

    def append(self, position: int, kind: int, payload: bytes) -> None:
        """Write the outcome of one call.

        Raises:
            OSError: it does not fit.
        """
        if os.getpid() != self._pid:
            os._exit(0)  # the call forked, and its child came back here as well
        write_all(self._descriptor, pack_outcome(position, kind, payload))

    def are_wanted(self) -> bool:
        """Whether the client has not withdrawn them; it looks now and then only."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_INTERVAL:
            return True
        self._looked_at = now
        # Listed: of a name NFS may go on for long to say what was true before.
        directory, name = os.path.split(self._own)
        try:
            return name in os.listdir(directory)
        except FileNotFoundError:
            return False
        except OSError:  # the next look will tell
            return True

    def publish(self, *, sync: bool) -> bool:
        """Give the complete file its final name; the later of two attempts stays.

        Args:
            sync: let it survive a crash of the node.

        Returns:
            False if the client has withdrawn it.
        """
        if sync:
            os.fsync(self._descriptor)
        # Whichever descriptor is closed, NFS writes then what it holds back.
        os.close(os.dup(self._descriptor))
        try:
            os.rename(self._own, self._final)
        except FileNotFoundError:
            return self._is_published()
        finally:
            os.close(self._descriptor)
        return True

    def _is_published(self) -> bool:
        """Whether the rename has worked, and NFS has sent it twice."""
        try:
            published = os.stat(self._final)
        except OSError:
            return False
        return os.path.samestat(published, os.fstat(self._descriptor))

    def drop(self) -> None:
        """Leave nothing."""
        os.close(self._descriptor)
        try:
            os.unlink(self._own)
        except FileNotFoundError:
            pass
