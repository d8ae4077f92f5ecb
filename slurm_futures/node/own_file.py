"""A file that stays open while calls run, which do with descriptors what they like.

A call that closes all of them, as daemons do, and opens a file of its own, gets the
same number again: what we write must not end up there.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from collections.abc import Sequence


class OwnFile:
    """An open file of ours.

    Args:
        names: paths of it: the one with which it is opened now, and those that it may
            have got when it must be opened again.
        flags: for os.open.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, names: Sequence[str], flags: int) -> None:
        self._names = names
        self._flags = flags & ~(os.O_CREAT | os.O_TRUNC)
        self._descriptor: int | None = None
        self._open(names[0], flags)

    def _open(self, name: str, flags: int) -> None:
        mask = None
        if flags & os.O_CREAT:  # a call may have left a umask that forbids all
            mask = os.umask(0o077)
        try:
            self._descriptor = os.open(name, flags | os.O_CLOEXEC, 0o600)
        finally:
            if mask is not None:
                os.umask(mask)
        self._identity = _identify(self._descriptor)

    @property
    def descriptor(self) -> int:
        """The number of it, which it may have got just now.

        Raises:
            OSError: it has to be opened again, and cannot be.
        """
        if self._descriptor is None or not self._is_ours(self._descriptor):
            self._reopen()
        assert self._descriptor is not None
        return self._descriptor

    def _is_ours(self, descriptor: int) -> bool:
        try:
            # A file that is renamed may get a longer name.
            return _identify(descriptor).startswith(self._identity)
        except OSError:
            return False

    def _reopen(self) -> None:
        for name in self._names[:-1]:
            try:
                self._open(name, self._flags)
            except FileNotFoundError:
                continue
            return
        self._open(self._names[-1], self._flags)

    def is_at(self, name: str) -> bool:
        """Whether it has this name now.

        Raises:
            OSError: nobody can tell.
        """
        assert self._descriptor is not None
        return os.path.samestat(os.stat(name), os.fstat(self._descriptor))

    def renew(self) -> None:
        """Open it anew for the next operation: the handle of a server may be stale."""
        self.close()
        self._descriptor = None

    def close(self) -> None:
        """Close it, if it is still there."""
        if self._descriptor is not None and self._is_ours(self._descriptor):
            self.release()

    def release(self) -> None:
        """Close the descriptor, which is known to be ours."""
        assert self._descriptor is not None
        try:
            os.close(self._descriptor)
        except OSError:  # the descriptor is closed all the same
            pass
        self._descriptor = None


def _identify(descriptor: int) -> str:
    """Say which file it is; where the system can tell, with no question to its server.

    Raises:
        OSError: there is no such descriptor.
    """
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # closed, or no Linux
        status = os.fstat(descriptor)
        return f"{status.st_dev} {status.st_ino}"
