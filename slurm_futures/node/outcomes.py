"""Where a worker leaves what its calls have left; `formats.py` describes the file."""

from __future__ import annotations

import os
import time

from .formats import (
    LINGERS,
    LOOK_INTERVAL,
    RAISED,
    VALUE,
    WITHDRAWN,
    block_of,
    leave_mark,
    pack_outcome,
    write_all,
)
from .limits import NoFileSizeSignal, lift_file_size
from .own_file import OwnFile
from .patience import Patience

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import Any

#: Bytes that are written again at a time.
_PIECE = 1 << 20


class OutcomesFile:
    """The outcomes of the calls of one job, or of one entry of a pool's queue.

    Args:
        root: the directory of the submission or the pool.
        number: of the job or the entry.
        name: of this attempt, which no other one has.

    Attributes:
        left: objects of the last call. They are deleted when its outcome is there: that
            may take long, where they have something to do then.
        lingers: whether to say that the process may live on.
        size: how many calls there are.

    Raises:
        FileNotFoundError: the client has cleaned up.
        IsADirectoryError: the client does not want this attempt to begin.
        OSError: it cannot be made.
    """

    def __init__(self, root: str, number: int, name: str) -> None:
        self._final = f"{root}/finished/{block_of(number)}/{number}"
        self._own = f"{self._final}.{name}"
        self._pid = os.getpid()
        self._looked_at = time.monotonic()
        self.left: list[Any] = []
        self.lingers = False
        self.size = 1
        self._values = 0
        self._size = 0  # bytes of all complete records
        self._lost = False  # the system has dropped what it could not write
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        names = self._own, f"{self._own}{WITHDRAWN}"
        self._patience = Patience()
        self._file = self._patience.insist(OwnFile, names, flags)

    @property
    def descriptor(self) -> int:
        """The number of the open file.

        Raises:
            OSError: calls have closed it, and it cannot be opened again.
        """
        return self._file.descriptor

    def append(
        self, position: int, kind: int, payload: bytes, usage: bytes = b""
    ) -> None:
        """Write the outcome of one call, and what it has used.

        Raises:
            OSError: it does not fit.
        """
        if os.getpid() != self._pid:
            os._exit(0)  # the call forked, and its child came back here as well
        self._append(pack_outcome(position, kind, payload, usage))
        self._values += kind == VALUE

    def _append(self, record: bytes) -> None:
        with NoFileSizeSignal():
            self._patience.insist(self._write, record)
        self._size += len(record)

    def _write(self, record: bytes) -> None:
        try:
            write_all(self._file.descriptor, record, self._size)
        except OSError as error:
            lift_file_size(error)
            self._file.renew()
            raise

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

        Raises:
            OSError: it cannot be written, or not be renamed.
        """
        if self.lingers:
            try:
                self._append(LINGERS)
            except OSError:  # the client will find out
                pass
        self._patience.insist(self._flush, sync)
        self._note_raised()
        try:
            self._patience.insist(os.rename, self._own, self._final)
        except FileNotFoundError:
            return self._patience.insist(self._is_published)
        finally:
            self._file.release()
        return True

    def _note_raised(self) -> None:
        """Leave a mark if there are calls without a value."""
        missing = self.size - self._values
        if missing:
            try:
                leave_mark(f"{self._final}.{RAISED}{missing}", "")
            except OSError:  # whoever reads the outcomes finds out
                pass

    def forget_earlier(self) -> None:
        """Remove the marks that an attempt before this one may have left."""
        directory, name = os.path.split(self._final)
        try:
            for each in os.listdir(directory):
                if each.startswith(f"{name}.{RAISED}"):
                    os.unlink(f"{directory}/{each}")
        except OSError:  # the same
            pass

    def note_over(self) -> None:
        """Tell the client that the process, which has lingered, ends now."""
        try:
            leave_mark(f"{self._final}.over", str(self._pid))
        except OSError:  # the client asks Slurm
            pass

    def _flush(self, sync: bool) -> None:
        """Let the file be on the server."""
        descriptor = self._file.descriptor
        try:
            if self._lost:
                self._write_again(descriptor)
            if sync or not _close_copy(descriptor):
                os.fsync(descriptor)
        except OSError:
            self._lost = True
            self._file.renew()
            raise

    def _write_again(self, descriptor: int) -> None:
        """Hand the system what it could not write, and takes for written ever since."""
        for start in range(0, self._size, _PIECE):
            write_all(descriptor, os.pread(descriptor, _PIECE, start), start)

    def _is_published(self) -> bool:
        """Whether the rename has worked, and NFS has sent it twice."""
        try:
            return self._file.is_at(self._final)
        except FileNotFoundError:
            return False

    def drop(self) -> None:
        """Leave nothing, as far as that can be done."""
        self._file.close()
        try:
            self._patience.insist(os.unlink, self._own)
        except OSError:
            pass


def _close_copy(descriptor: int) -> bool:
    """Let NFS write what it holds back, as it does where any descriptor is closed.

    Returns:
        False if the calls have left no descriptor for that.

    Raises:
        OSError: it could not be written.
    """
    try:
        copy = os.dup(descriptor)
    except OSError:
        return False
    os.close(copy)
    return True
