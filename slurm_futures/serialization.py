"""Calls and outcomes to bytes and back.

`pickler.py` says what travels by value and what by reference.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from slurm_futures import by_value, worker
from slurm_futures.errors import OutcomeNotReadable, RemoteTraceback, words_of
from slurm_futures.pickler import dump


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Blob:
    """A pickled object; other than bytes it can be referred to weakly."""

    content: bytes


@dataclass(frozen=True, slots=True)
class PickledCall:
    """One function with its arguments, as they were when the call was submitted."""

    function: bytes
    arguments: bytes
    #: Large objects to which the arguments refer by their place (`sharing.py`).
    shared: tuple[Blob, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call left: a value, or an exception."""

    value: Any = None
    exception: BaseException | None = None
    initializer_failed: bool = False


#: Types that the C pickler knows by itself: eight times as fast as cloudpickle.
PLAIN = frozenset({int, float, complex, str, bytes, bool, type(None)})


def dump_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Pickle the arguments of one call."""
    if not kwargs and all(type(each) in PLAIN for each in args):
        return pickle.dumps((tuple(args), {}), pickle.HIGHEST_PROTOCOL)
    return dump((tuple(args), dict(kwargs)))


def write_calls(
    path: Path, jobs: Sequence[Sequence[PickledCall]], context: Mapping[str, Any]
) -> None:
    """Write the calls of all jobs of a submission; worker.py describes the file."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb", buffering=1 << 20) as file:
        file.write(worker.CALLS_MAGIC)
        blobs = _BlobWriter(file)
        job_table, call_table, use_table = bytearray(), bytearray(), bytearray()
        first = 0
        for calls in jobs:
            job_table += worker.JOB_ENTRY.pack(first, len(calls))
            first += len(calls)
            for call in calls:
                uses = len(use_table) // worker.USE_ENTRY.size, len(call.shared)
                for blob in call.shared:
                    use_table += worker.USE_ENTRY.pack(*blobs.write_once(blob.content))
                where = (*blobs.write_once(call.function), *blobs.write(call.arguments))
                call_table += worker.CALL_ENTRY.pack(*where, *uses)
        tail = _place_initializer(context, blobs)
        tail["uses"] = blobs.write(use_table)[0]
        jobs_offset = blobs.write(job_table)[0]
        calls_offset = blobs.write(call_table)[0]
        context_place = blobs.write(pickle.dumps(tail, pickle.HIGHEST_PROTOCOL))
        footer = (jobs_offset, len(jobs), calls_offset, first, *context_place)
        file.write(worker.CALLS_FOOTER.pack(*footer, worker.CALLS_MAGIC))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _place_initializer(
    context: Mapping[str, Any], blobs: _BlobWriter
) -> dict[str, Any]:
    initializer = context["initializer"]
    place = None if initializer is None else blobs.write(initializer)
    return {**context, "initializer": place}


class _BlobWriter:
    """Appends blobs to a calls file and tells where they went."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = file.tell()
        self._written: dict[bytes, tuple[int, int]] = {}

    def write(self, blob: bytes | bytearray) -> tuple[int, int]:
        place = self._offset, len(blob)
        self._file.write(blob)
        self._offset += len(blob)
        return place

    def write_once(self, blob: bytes) -> tuple[int, int]:
        """Write a blob unless the same bytes are in the file already."""
        if blob not in self._written:
            self._written[blob] = self.write(blob)
        return self._written[blob]


def read_calls(path: Path, job: int, positions: Iterable[int]) -> list[PickledCall]:
    """Read calls of a job back, to submit them once more.

    What they have in common is read once, and in memory once.

    Raises:
        OSError: the file cannot be read.
        EOFError: it is incomplete.
    """
    blobs: dict[tuple[int, ...], Blob] = {}

    def read_once(place: tuple[int, ...]) -> Blob:
        if place not in blobs:
            blobs[place] = Blob(calls.read(*place))
        return blobs[place]

    with contextlib.closing(worker.CallsFile(path)) as calls:
        entries = list(calls.entries(job))
        return [
            PickledCall(
                read_once(entry[:2]).content,
                calls.read(*entry[2:4]),
                tuple(map(read_once, calls.places_of_shared(entry))),
            )
            for entry in map(entries.__getitem__, positions)
        ]


def load_outcome(kind: int, payload: bytes) -> Outcome:
    """Unpickle what a call left. Never raises: what cannot be loaded says so."""
    if kind == worker.VALUE:
        try:
            return Outcome(value=by_value.load_outcome(payload))
        except BaseException as error:  # noqa: BLE001  (whatever a reducer may raise)
            return Outcome(exception=_not_readable("value", error, ""))
    exception = _load_exception(payload)
    return Outcome(
        exception=exception, initializer_failed=kind == worker.INITIALIZER_FAILED
    )


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
        exception = by_value.load_outcome(description["pickle"])
        if isinstance(exception, BaseException):
            return exception
    if description["parts"] is None:
        raise pickle.UnpicklingError("the exception could not be pickled in the job")
    cls, arguments, attributes, members = by_value.load_outcome(description["parts"])
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


def function_name(fn: Callable[..., Any]) -> str:
    """Return a name for people: of the function, or of what it is a partial of."""
    try:
        inner = getattr(fn, "func", fn)
        name = getattr(inner, "__name__", None) or type(inner).__name__
        return str(name)
    except Exception:  # noqa: BLE001  (a proxy may raise anything)
        return type(fn).__name__
