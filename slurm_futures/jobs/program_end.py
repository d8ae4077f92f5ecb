"""The end of the program: who hears of it, and what an interrupt means there.

CPython waits for our threads, which are no daemons, before it calls the functions of
`atexit`. Ctrl-C ends this wait, and not the program's jobs. We wait before that in a
way of our own: CPython's has no timeout, and so overlooks an interrupt that comes just
before it.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
import weakref
from typing import Protocol


class Listener(Protocol):
    """Who has jobs."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to be done."""

    def interrupt(self) -> None:
        """Cancel everything, as the end of a `with` block does after Ctrl-C."""

    def wait(self) -> None:
        """Wait until nothing is left to be done."""

    def join(self) -> None:
        """Wait until that is done."""


#: Seconds for which other threads of ours are waited for, and between two looks.
_PATIENCE, _PAUSE = 30.0, 0.01

_listeners: set[weakref.ref[Listener]] = set()
_has_begun = False


def program_ends() -> bool:
    """Whether the main thread has come to its end, and the program waits for others.

    The main thread does not ask itself whether it is alive: an interrupt in the answer
    makes CPython 3.11 believe that it has ended.
    """
    main = threading.main_thread()
    is_other = threading.get_ident() != main.ident
    return _has_begun or (is_other and not main.is_alive())


def listen(listener: Listener) -> None:
    """Let somebody hear of the end, as long as he lives."""
    _listeners.add(weakref.ref(listener, _listeners.discard))
    # What was registered last is called first: before files are cleaned up.
    atexit.unregister(_after_the_wait)
    atexit.register(_after_the_wait)


def _living() -> list[Listener]:
    return [each for ref in list(_listeners) if (each := ref()) is not None]


def _before_the_wait() -> None:
    global _has_begun  # noqa: PLW0603  (of the process)
    _has_begun = True
    if _has_died_of_ctrl_c():
        for each in _living():
            each.interrupt()
    for each in _living():
        each.wait()


def _has_died_of_ctrl_c() -> bool:
    """Whether nobody has caught a KeyboardInterrupt.

    At a prompt it does not end the program.
    """
    last = getattr(sys, "last_type", None)
    is_interrupt = isinstance(last, type) and issubclass(last, KeyboardInterrupt)
    return is_interrupt and not hasattr(sys, "ps1")


def _after_the_wait() -> None:
    """Find work still going on: Ctrl-C has ended the wait for it."""
    for each in _living():
        if not each.is_idle:
            each.interrupt()
            each.join()
    # The local scheduler ends processes in threads of its own.
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and any(map(_is_ours, threading.enumerate())):
        time.sleep(_PAUSE)


def _is_ours(thread: threading.Thread) -> bool:
    return thread.name.startswith("slurm_futures") and not thread.daemon


# The hook that concurrent.futures uses, too: the only one before the wait.
threading._register_atexit(_before_the_wait)  # type: ignore[attr-defined]
