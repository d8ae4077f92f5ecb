"""Pickles functions, classes and what they refer to, more of it than cloudpickle does.

Functions and classes of `__main__`, lambdas and closures travel by value, and so do
those of modules that jobs do not find; all others by reference, as cloudpickle decides.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import functools
import io
import multiprocessing.connection
import pickle
import queue
import sys
import threading
import types
import typing
import weakref
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, cast

import cloudpickle

from slurm_futures.calls.search_path import is_found
from slurm_futures.node import values

CLOUDPICKLE_VERSION = str(cloudpickle.__version__)

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
    if not is_found(name):
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


def _reduce_connection(_: Any) -> _Reduced:
    # Its own reducer writes the number of a descriptor, which means another file there.
    raise TypeError(
        "a connection of multiprocessing is a descriptor of this process: a job, which "
        "may run on another machine, cannot use it"
    )


#: Place of the file name among the arguments of `types.CodeType` (Python 3.11 to 3.14).
_FILE_NAME = 10
_REDUCE_CODE: Callable[[Any], _Reduced] = cloudpickle.Pickler.dispatch_table[
    types.CodeType
]
_REDUCE_MODULE: Callable[[Any], _Reduced] = cloudpickle.Pickler.dispatch_table[
    types.ModuleType
]


def _reduce_code(code: Any) -> _Reduced:
    """Keep the file name, so that tracebacks show lines; cloudpickle 3.1.3 drops it."""
    reduced = _REDUCE_CODE(code)
    assert isinstance(reduced, tuple)
    make, arguments, *_ = reduced
    head, tail = arguments[:_FILE_NAME], arguments[_FILE_NAME + 1 :]
    # A new string: whether two are one object must not change the pickle.
    return make, (*head, "".join(code.co_filename), *tail)


def _reduce_module(module: types.ModuleType) -> _Reduced:
    if is_found(module.__name__):
        return _REDUCE_MODULE(module)
    own = {"__builtins__", "__spec__", "__loader__"}
    state = {name: each for name, each in vars(module).items() if name not in own}
    return types.ModuleType, (module.__name__,), state


def _reducers() -> dict[Any, Callable[[Any], _Reduced]]:
    """Return what cloudpickle lacks; the types of some exist in newer Pythons only."""
    cache = functools.lru_cache(abs)
    found: dict[Any, Callable[[Any], _Reduced]] = {
        type(cache): _by_value(_reduce_cache),
        types.CodeType: _reduce_code,
        types.ModuleType: _reduce_module,
        functools.cached_property: _reduce_cached_property,  # has a lock until 3.11
        typing.NewType: _by_value(_reduce_new_type),
        typing.ParamSpec: _by_value(_reduce_parameters),
        typing.TypeVarTuple: _by_value(_reduce_parameters),
        multiprocessing.connection.Connection: _reduce_connection,
        # functools.singledispatch has one.
        weakref.WeakKeyDictionary: lambda each: (type(each), (dict(each),)),
    }
    if hasattr(typing, "TypeAliasType"):
        found[typing.TypeAliasType] = _by_value(_reduce_alias)
    return found


def _reduce_context_variable(variable: Any) -> _Reduced:
    kind: Callable[..., Any] = contextvars.ContextVar
    with contextlib.suppress(LookupError):
        default = contextvars.Context().run(variable.get)
        kind = functools.partial(contextvars.ContextVar, default=default)
    return kind, (variable.name,)


#: What functions and classes may use as global variables and attributes though it
#: cannot be copied: the job gets a new one, as from a module that is imported there.
_MADE_ANEW: dict[type, Callable[[Any], _Reduced]] = {
    type(threading.Lock()): lambda _: (_thread.allocate_lock, ()),
    type(threading.RLock()): lambda each: (type(each), ()),
    threading.local: lambda each: (type(each), ()),
    queue.SimpleQueue: lambda each: (type(each), ()),
    weakref.WeakValueDictionary: lambda each: (type(each), ()),
    contextvars.ContextVar: _reduce_context_variable,
}
#: How deep it is looked for in such an object: one with a queue, its condition, a lock.
_DEPTH = 3
_NO_INSTANCES = (type, types.ModuleType, types.FunctionType)

#: Flag of a class that was made in Python.
_HEAP_TYPE = 1 << 9

_reduce_class = cloudpickle.cloudpickle._dynamic_class_reduce
_MAKE_CLASS = cloudpickle.cloudpickle._make_skeleton_class
_MAKE_FUNCTION = cloudpickle.cloudpickle._make_function


class _Writable(Protocol):
    """A file as a pickler needs it."""

    def write(self, data: Any, /) -> object:
        """Append."""


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles like `dump`; a class to derive from."""

    # One map for both: each object that is pickled is looked up in all maps.
    dispatch_table: ClassVar = ChainMap(
        {**cloudpickle.Pickler.dispatch_table.maps[0], **_reducers()},
        *cloudpickle.Pickler.dispatch_table.maps[1:],
    )

    def __init__(self, file: _Writable) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        #: Functions and classes that travel by value, with what they use, by its name.
        self._used: list[tuple[Any, Mapping[str, Any]]] = []
        self._made_anew: set[int] = set()

    def dump(self, obj: object) -> None:
        """Pickle; an error says which global variable is to blame for it."""
        try:
            super().dump(obj)
        except TooLarge:
            raise
        except Exception as error:
            self._blame(error)
            raise

    def reducer_override(self, obj: Any) -> Any:
        """Reduce functions, classes, and what they use that cannot be copied."""
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented and _is_lost(obj):
            is_class = isinstance(obj, type)
            reduced = (
                _reduce_class(obj) if is_class else self._dynamic_function_reduce(obj)
            )
        if reduced is NotImplemented:
            make_anew = _MADE_ANEW.get(type(obj))
            if make_anew is not None and id(obj) in self._made_anew:
                return make_anew(obj)
        elif isinstance(reduced, tuple):
            if reduced[0] is _MAKE_FUNCTION:
                self._note_use(obj, {**reduced[2][1]["__globals__"], **_closure(obj)})
            elif reduced[0] is _MAKE_CLASS:
                self._note_use(obj, reduced[2][0])
                if "__slots__" in vars(obj):
                    return _keep_slots(obj, reduced)
        return reduced

    def _note_use(self, user: Any, names: Mapping[str, Any]) -> None:
        self._used.append((user, names))
        for value in names.values():
            self._note_made_anew(value, _DEPTH)

    def _note_made_anew(self, value: Any, depth: int) -> None:
        if type(value) in _MADE_ANEW:
            self._made_anew.add(id(value))
        elif depth and not isinstance(value, _NO_INSTANCES):
            with contextlib.suppress(Exception):  # a proxy may raise anything
                for each in tuple(vars(value).values()):
                    self._note_made_anew(each, depth - 1)

    def _blame(self, error: Exception) -> None:
        """Note which variable cannot be pickled, of the innermost user of one."""
        for user, names in reversed(self._used):
            for name, value in names.items():
                probe = ByValuePickler(io.BytesIO())
                probe._made_anew = self._made_anew
                try:
                    super(ByValuePickler, probe).dump(value)
                except Exception:  # noqa: BLE001  (whatever a reducer may raise)
                    note = f"{user.__qualname__} uses {name!r}, which cannot be sent"
                    values.add_note(error, note)
                    return


def _is_lost(obj: Any) -> bool:
    """Whether it is a function or class of a module that jobs do not find."""
    if isinstance(obj, type):
        return bool(obj.__flags__ & _HEAP_TYPE) and not is_found(obj.__module__)
    return type(obj) is types.FunctionType and not is_found(obj.__module__)


def _closure(function: types.FunctionType) -> dict[str, Any]:
    found = {}
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        with contextlib.suppress(ValueError):  # it is empty
            found[name] = cell.cell_contents
    return found


def _keep_slots(cls: Any, reduced: Any) -> Any:
    """Send a class with its slots; cloudpickle sends it without.

    Instances would have a `__dict__` in the job, and could not come back.
    """
    _, (*head, namespace, tracker_id, extra), (attributes, _), *_ = reduced
    bases = types.resolve_bases(head[2])
    if not all(issubclass(type(cls), type(base)) for base in bases):
        return reduced  # of typing.NamedTuple, which makes its classes otherwise
    attributes.pop("__slots__", None)
    namespace["__slots__"] = vars(cls)["__slots__"]
    for name, value in list(attributes.items()):
        own = getattr(value, "__objclass__", None) is cls
        if own and isinstance(value, types.MemberDescriptorType):
            del attributes[name]  # of a slot with a private name
    return reduced[0], (*head, namespace, tracker_id, extra), *reduced[2:]


class TooLarge(Exception):
    """A pickle is larger than the caller wants it."""


class _LimitedFile(io.BytesIO):
    """Refuses what is too large before memory is taken for it."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > self._limit:
            raise TooLarge
        return super().write(data)


def dump(value: object, limit: int | None = None) -> bytes:
    """Pickle an object, to at most so many bytes if there is a limit.

    Raises:
        TooLarge: there would be more.
        Exception: whatever the reducers of the object raise.
    """
    buffer = io.BytesIO() if limit is None else _LimitedFile(limit)
    try:
        ByValuePickler(buffer).dump(value)
    except pickle.PicklingError as error:
        if isinstance(error.__cause__, RecursionError):  # as cloudpickle calls it
            raise error.__cause__ from None
        raise
    return buffer.getvalue()
