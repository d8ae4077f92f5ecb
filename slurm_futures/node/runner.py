"""Runs one call, and keeps its outcome."""

from __future__ import annotations

import os
import sys

from . import needs, state, streams
from .formats import EXCEPTION, VALUE
from .usage import Meter
from .values import add_note, dump

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import Any

    from .calls_file import CallsFile
    from .outcomes import OutcomesFile


#: One process, one call at a time.
_meter = Meter()


class NotBegun(Exception):
    """A call did not run: what it is cannot be read. The cause tells why."""


def run_call(
    calls: CallsFile, entry: tuple[int, ...], position: int, outcomes: OutcomesFile
) -> bool:
    """Run one call and append its outcome; return whether it failed.

    Raises:
        NotBegun: it did not run; nothing is appended.
        OSError: its outcome cannot be written.
    """
    outcomes.left.clear()
    _meter.begin()
    try:
        value = _call(calls, entry, outcomes.left)
    except NotBegun:
        raise
    except BaseException as error:  # noqa: BLE001  (as in concurrent.futures)
        outcomes.left.append(error)
        append_exception(outcomes, position, EXCEPTION, error, _meter.end())
        return True
    try:
        payload = dump(value)
    except BaseException as error:  # noqa: BLE001  (whatever a reducer may raise)
        add_note(
            error,
            f"The call ended well, but its value of type {type(value).__name__!r} "
            "cannot be sent back. Return plain data, or write it to a file and "
            "return the name.",
        )
        append_exception(outcomes, position, EXCEPTION, error, _meter.end())
        return True
    finally:
        outcomes.left.append(value)
        del value
        streams.flush()
    usage = _meter.end()
    try:
        outcomes.append(position, VALUE, payload, usage)
    except OSError as error:  # the disk is full
        add_note(
            error,
            f"The call ended well, but its value ({len(payload)} bytes) could not be "
            "written to the directory of the run.",
        )
        append_exception(outcomes, position, EXCEPTION, error, usage)
        return True
    return False


def _call(calls: CallsFile, entry: tuple[int, ...], left: list[Any]) -> Any:
    """Call the function; what it was called with is added to `left`."""
    needs.remember()
    try:
        function, arguments, keywords = _load(calls, entry)
        left += function, arguments, keywords
        return function(*arguments, **keywords)
    finally:
        needs.restore()
        streams.reopen()


def _load(calls: CallsFile, entry: tuple[int, ...]) -> tuple[Any, Any, Any]:
    try:
        state.enter(calls.load_state())
        function = calls.load_function(entry)
        arguments, keywords = calls.load_arguments(entry)
        state.filter_warnings()
    except BaseException as error:
        add_note(
            error,
            f"The call could not be loaded on {os.uname().nodename}, so it did not "
            f"run. The job looked for modules in {sys.path}.",
        )
        if error is calls.problem:
            raise NotBegun from error
        raise
    return function, arguments, keywords


def append_exception(
    outcomes: OutcomesFile,
    position: int,
    kind: int,
    error: BaseException,
    usage: bytes = b"",
) -> None:
    """Append the exception of a call as its outcome."""
    from . import exceptions  # read only where a call raises

    outcomes.append(position, kind, dump(exceptions.describe(error)), usage)
    streams.flush()
