"""An outcome: what a call left, and how it comes back from bytes."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slurm_futures.errors import (
    InitializerFailed,
    OutcomeNotReadable,
    RemoteTraceback,
    words_of,
)
from slurm_futures.node import unpickler
from slurm_futures.node.formats import INITIALIZER_FAILED, VALUE


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call left: a value, or an exception.

    `usage` tells what it has used, where that is read with it.
    """

    value: Any = None
    exception: BaseException | None = None
    initializer_failed: bool = False
    usage: bytes = b""


def load_outcome(kind: int, payload: bytes) -> Outcome:
    """Unpickle what a call left. Never raises: what cannot be loaded says so."""
    if kind == VALUE:
        try:
            return Outcome(value=unpickler.load_outcome(payload))
        except BaseException as error:  # noqa: BLE001  (whatever a reducer may raise)
            return Outcome(exception=_not_readable("value", error, ""))
    exception = _load_exception(payload)
    return Outcome(exception=exception, initializer_failed=kind == INITIALIZER_FAILED)


def _load_exception(payload: bytes) -> BaseException:
    text = ""
    try:
        description = pickle.loads(payload)
        text = description["text"]
        exception = _rebuild_exception(description)
        BaseException.__setattr__(exception, "__cause__", RemoteTraceback(text))
    except BaseException as error:  # noqa: BLE001  (whatever a reducer may raise)
        return _not_readable("exception", error, text)
    return exception


def _rebuild_exception(description: Mapping[str, Any]) -> BaseException:
    if description["pickle"] is not None:
        exception = unpickler.load_outcome(description["pickle"])
        if isinstance(exception, BaseException):
            return exception
    if description["parts"] is None:
        raise pickle.UnpicklingError("the exception could not be pickled in the job")
    cls, arguments, attributes, members = unpickler.load_outcome(description["parts"])
    if members is not None:
        arguments = (*arguments, [_rebuild_exception(each) for each in members])
    exception = _make_exception(cls, arguments)
    for name, value in {"args": arguments, **attributes}.items():
        with contextlib.suppress(AttributeError):
            BaseException.__setattr__(exception, name, value)
    return exception


def _make_exception(
    cls: type[BaseException], arguments: Sequence[Any]
) -> BaseException:
    """Make an exception without its constructor, which may want other arguments."""
    try:
        return cls.__new__(cls, *arguments)
    except TypeError:
        base = next(each for each in cls.__mro__ if each.__module__ == "builtins")
        made = base.__new__(cls, *arguments)
        assert isinstance(made, BaseException)
        return made


def initializer_failed(exception: BaseException) -> InitializerFailed:
    """Return what all calls of an executor fail with whose initializer has raised."""
    error = InitializerFailed(
        "The initializer failed in a job, so no call of this executor can run.\n"
        f"It raised {type(exception).__name__}: {words_of(exception)}.\nThe traceback "
        "is above; fix the initializer and make a new SlurmExecutor."
    )
    error.__cause__ = exception
    return error


def _not_readable(what: str, error: BaseException, text: str) -> OutcomeNotReadable:
    reason = f"{type(error).__name__}: {words_of(error)}"
    failure = OutcomeNotReadable(
        f"The call ended, but its {what} cannot be unpickled here ({reason}). "
        "Return plain data, or make the module with its class importable in both "
        "places." + (f"\nThe job says:\n{text}" if text else ""),
        text or reason,
    )
    failure.__cause__ = error
    return failure
