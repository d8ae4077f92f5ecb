"""Lets a job write what a call has left although that call has limited its files.

A worker of ProcessPoolExecutor sends values through a pipe, which no such limit is for.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself imports enum
import errno

from .modules import import_ours

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import Any


class NoFileSizeSignal:
    """While this is entered, a file that is too large is an error and no signal.

    So it is from the start of Python on; a call may have changed that.
    """

    def __enter__(self) -> None:
        self._handler: Any = _signal.getsignal(_signal.SIGXFSZ)
        self._set(_signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        self._set(self._handler)

    def _set(self, handler: Any) -> None:
        if self._handler in {_signal.SIG_IGN, None}:
            return
        try:
            _signal.signal(_signal.SIGXFSZ, handler)
        except ValueError:  # not the main thread
            pass


def lift_file_size(error: OSError) -> None:
    """Raise the limit on the size of files, if that is what an error tells of."""
    if error.errno != errno.EFBIG:
        return
    resource = import_ours("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
