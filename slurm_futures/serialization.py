"""Calls and outcomes to bytes and back.

Functions and classes of `__main__`, lambdas and closures travel by value, all others
by reference, as cloudpickle decides. The only module that imports cloudpickle.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import sys
import types
import typing
import weakref
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import cloudpickle

from slurm_futures import by_value, worker
from slurm_futures.errors import OutcomeNotReadable, RemoteTraceback, words_of

CLOUDPICKLE_VERSION = str(cloudpickle.__version__)


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


_MAKE_CLASS = cloudpickle.cloudpickle._make_skeleton_class

#: What pickle's reducers return.
_Reduced = str | tuple[Any, ...]


def _is_importable(obj: Any) -> bool:
    """Whether the nodes find the object under its name."""
    name = getattr(obj, "__module__", None) or "__main__"
    registered = cloudpickle.list_registry_pickle_by_value()
    parts = name.split(".")
    parents = {".".join(parts[: end + 1]) for end in range(len(parts))}
    if name == "__main__" or name not in sys.modules or parents & registered:
        return False
    found: Any = sys.modules[name]
    for part in getattr(obj, "__qualname__", getattr(obj, "__name__", "")).split("."):
        found = getattr(found, part, None)
    return found is obj


def _by_value(
    reduce: Callable[[Any], tuple[Any, ...]],
) -> Callable[[Any], _Reduced]:
    """Return a reducer for objects that pickle and cloudpickle write as names."""

    def reduce_unless_importable(obj: Any) -> _Reduced:
        if _is_importable(obj):
            return cast("_Reduced", obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL))
        return reduce(obj)

    return reduce_unless_importable


def _reduce_cache(cached: Any) -> tuple[Any, ...]:
    settings = cached.cache_parameters()
    arguments = settings["maxsize"], settings["typed"], _CacheInfo()
    return type(cached), (cached.__wrapped__, *arguments), vars(cached)


class _CacheInfo:
    """Stands for functools._CacheInfo, which calls itself CacheInfo."""

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (functools, "_CacheInfo")


def _reduce_cached_property(cached: Any) -> tuple[Any, ...]:
    state = {name: each for name, each in vars(cached).items() if name != "lock"}
    return type(cached), (cached.func,), state


def _reduce_new_type(new: Any) -> tuple[Any, ...]:
    return typing.NewType, (new.__qualname__, new.__supertype__), vars(new)


def _reduce_parameters(parameters: Any) -> tuple[Any, ...]:
    names = ("bound", "covariant", "contravariant")
    options = {name: getattr(parameters, f"__{name}__", None) for name in names}
    given = {name: each for name, each in options.items() if each}
    kind: Callable[..., Any] = type(parameters)
    return functools.partial(kind, **given), (parameters.__name__,)


def _reduce_alias(alias: Any) -> tuple[Any, ...]:
    kind: Callable[..., Any] = type(alias)
    make = functools.partial(kind, type_params=alias.__type_params__)
    return make, (alias.__name__, alias.__value__)


def _reducers() -> dict[Any, Callable[[Any], _Reduced]]:
    """Return what cloudpickle lacks; the types of some exist in newer Pythons only."""
    cache = functools.lru_cache(abs)
    found: dict[Any, Callable[[Any], _Reduced]] = {
        type(cache): _by_value(_reduce_cache),
        functools.cached_property: _reduce_cached_property,  # has a lock until 3.11
        typing.NewType: _by_value(_reduce_new_type),
        typing.ParamSpec: _by_value(_reduce_parameters),
        typing.TypeVarTuple: _by_value(_reduce_parameters),
        # functools.singledispatch has one.
        weakref.WeakKeyDictionary: lambda each: (type(each), (dict(each),)),
    }
    if hasattr(typing, "TypeAliasType"):
        found[typing.TypeAliasType] = _by_value(_reduce_alias)
    return found


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles like `dump`; a class to derive from."""

    # One map for both: each object that is pickled is looked up in all maps.
    dispatch_table: ClassVar = ChainMap(
        {**cloudpickle.Pickler.dispatch_table.maps[0], **_reducers()},
        *cloudpickle.Pickler.dispatch_table.maps[1:],
    )

    def reducer_override(self, obj: Any) -> Any:
        """Reduce classes with their slots; cloudpickle sends them without.

        Instances would have a `__dict__` in the job, and could not come back.
        """
        reduced = super().reducer_override(obj)
        if not isinstance(obj, type) or "__slots__" not in vars(obj):
            return reduced
        if not isinstance(reduced, tuple) or reduced[0] is not _MAKE_CLASS:
            return reduced
        _, (*head, namespace, tracker_id, extra), (attributes, _), *_ = reduced
        bases = types.resolve_bases(head[2])
        if not all(issubclass(type(obj), type(base)) for base in bases):
            return reduced  # of typing.NamedTuple, which makes its classes otherwise
        attributes.pop("__slots__", None)
        namespace["__slots__"] = vars(obj)["__slots__"]
        for name, value in list(attributes.items()):
            own = getattr(value, "__objclass__", None) is obj
            if own and isinstance(value, types.MemberDescriptorType):
                del attributes[name]  # of a slot with a private name
        return reduced[0], (*head, namespace, tracker_id, extra), *reduced[2:]


def dump(value: object) -> bytes:
    """Pickle an object.

    Raises:
        Exception: whatever the reducers of the object raise.
    """
    buffer = io.BytesIO()
    ByValuePickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


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
