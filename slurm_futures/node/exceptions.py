"""Describes the exceptions of calls, so that the client can raise them again.

It is loaded only where a call raises.
"""

from __future__ import annotations

import os

from .modules import import_ours
from .values import dump, load_outcome

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any


def describe(error: BaseException) -> dict[str, Any]:
    """Return what the client needs to raise this exception again, or to tell of it.

    `pickle` is the exception itself. Where it cannot be loaded (a constructor with
    several arguments, say), `parts` is class, args, attributes and the descriptions of
    a group's members instead; where it cannot even be pickled, both are None and the
    text has to do.
    """
    traceback = import_ours("traceback")
    # Our own frames are of no use to the reader.
    frames = error.__traceback__
    here = os.path.dirname(__file__)
    while frames is not None and _folder(frames) == here:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    description: dict[str, Any] = {"text": text, "pickle": None, "parts": None}
    for part, make in (("pickle", _pickle), ("parts", _take_apart)):
        try:
            description[part] = make(error)
        except BaseException:  # noqa: BLE001, S112  (the next one is simpler)
            continue
        break
    return description


def _folder(frames: TracebackType) -> str:
    return os.path.dirname(frames.tb_frame.f_code.co_filename)


def _pickle(error: BaseException) -> bytes:
    blob: bytes = dump(error)
    if type(load_outcome(blob)) is not type(error):
        raise TypeError("the exception does not survive pickling")
    return blob


def _take_apart(error: BaseException) -> bytes:
    members: list[dict[str, Any]] | None = None
    arguments = error.args
    if isinstance(error, BaseExceptionGroup):
        members = [describe(each) for each in error.exceptions]
        arguments = (error.message,)
    arguments = tuple(_sendable(argument) for argument in arguments)
    attributes = {name: _sendable(value) for name, value in _attributes(error).items()}
    blob: bytes = dump((type(error), arguments, attributes, members))
    load_outcome(blob)
    return blob


def _attributes(error: BaseException) -> dict[str, Any]:
    from copyreg import _slotnames  # type: ignore[attr-defined]  # as pickle does

    slots = {name for name in _slotnames(type(error)) if hasattr(error, name)}
    return {**vars(error), **{name: getattr(error, name) for name in slots}}


def _sendable(value: Any) -> Any:
    """Return the value, or its repr where it cannot be pickled."""
    try:
        load_outcome(dump(value))
    except Exception:  # noqa: BLE001  (whatever a reducer may raise)
        return repr(value)
    return value
