"""Waits for a file system that fails for a while: most of its errors pass.

All that a job does in the directory of its run goes through here, since what a call has
computed must not be lost for a server that restarts.
"""

from __future__ import annotations

import errno
import time

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")

#: Seconds that a file system has; in a job the `grace` of the executor, and none in the
#: client, which looks again later.
grace = 0.0

#: What is no error, but an answer.
ANSWERS = (FileNotFoundError, FileExistsError, IsADirectoryError)
#: Seconds between two attempts.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Patience:
    """Seconds to wait for one thing, however many operations it takes.

    Args:
        seconds: None: the whole grace.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._left = grace if seconds is None else seconds

    def insist(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Repeat an operation until it works.

        Raises:
            OSError: it did not work in all this time; or an answer, at once.
        """
        pause, began = _FIRST_PAUSE, None
        while True:
            try:
                result = operation(*args, **kwargs)
            except ANSWERS:
                raise
            except OSError as error:
                now = time.monotonic()
                began = now if began is None else began
                rest = began + self._left - now
                # A process without descriptors will not get any by waiting.
                if rest <= 0 or error.errno == errno.EMFILE:
                    self._left = 0
                    raise
            else:
                if began is not None:
                    self._left -= time.monotonic() - began
                return result
            time.sleep(min(pause, rest))
            pause = min(2 * pause, _LONGEST_PAUSE)


def insist(operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Repeat an operation until it works, for the whole grace.

    Raises:
        OSError: it did not work in all this time; or an answer, at once.
    """
    return Patience().insist(operation, *args, **kwargs)
