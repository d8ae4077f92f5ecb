"""Pickles functions, classes and what they refer to, more of it than cloudpickle does.

Functions and classes of `__main__`, lambdas and closures travel by value, and so do
those of modules that jobs do not find; all others by reference, as cloudpickle decides.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import types
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol

import cloudpickle

from slurm_futures.calls import ctypes_reducers, instances, reducers
from slurm_futures.calls.overlooked import overlooked
from slurm_futures.calls.search_path import is_found
from slurm_futures.node import values

CLOUDPICKLE_VERSION = str(cloudpickle.__version__)

#: How deep it is looked for in such an object: one with a queue, its condition, a lock.
_DEPTH = 3
#: At most so many items of a list or the like are looked at for them.
_FEW = 1000
_NO_INSTANCES = (type, types.ModuleType, types.FunctionType)

#: Types of which objects need none of our reducers; there are many more.
_USUAL = frozenset({types.CodeType, types.CellType, types.ModuleType})

#: Flag of a class that was made in Python.
_HEAP_TYPE = 1 << 9

#: What a class has for `__dict__`, `__weakref__` and each of its slots.
_MADE_WITH_CLASS = types.GetSetDescriptorType, types.MemberDescriptorType

_OURS = frozenset(each.__name__ for each in (ctypes_reducers, instances, reducers))

_reduce_class = cloudpickle.cloudpickle._dynamic_class_reduce
_MAKE_CLASS = cloudpickle.cloudpickle._make_skeleton_class
_MAKE_ENUM = cloudpickle.cloudpickle._make_skeleton_enum
_get_arguments = cloudpickle.cloudpickle._class_getnewargs
_get_state = cloudpickle.cloudpickle._class_getstate
_SET_STATE = cloudpickle.cloudpickle._class_setstate
_MAKE_FUNCTION = cloudpickle.cloudpickle._make_function


class _Writable(Protocol):
    """A file as a pickler needs it."""

    def write(self, data: Any, /) -> object:
        """Append."""


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Pickles like `dump`; a class to derive from."""

    # One map for both: each object that is pickled is looked up in all maps.
    dispatch_table: ClassVar = ChainMap(
        {
            **cloudpickle.Pickler.dispatch_table.maps[0],
            **reducers.reducers(),
            **ctypes_reducers.REDUCERS,
        },
        *cloudpickle.Pickler.dispatch_table.maps[1:],
    )

    def __init__(self, file: _Writable) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        #: Functions and classes that travel by value, with what they use, by its name.
        self._used: list[tuple[Any, Mapping[str, Any]]] = []
        self._made_anew: set[int] = set()
        #: How objects of a type are reduced, and of which they are as usual.
        self._reducers: dict[type, Callable[[Any], Any]] = {}
        self._usual = set(_USUAL)

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
        kind = type(obj)
        if kind in self._usual:
            return NotImplemented
        if kind is not types.FunctionType and not issubclass(kind, type):
            return self._reduce_instance(obj, kind)
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented and _is_lost(obj):
            is_class = isinstance(obj, type)
            reduced = (
                _reduce_class(obj) if is_class else self._dynamic_function_reduce(obj)
            )
        if isinstance(reduced, tuple):
            if reduced[0] is _MAKE_FUNCTION:
                used = reduced[2][1]["__globals__"]
                used.update(overlooked(obj, _can_be_sent))
                self._note_use(obj, {**used, **_closure(obj)})
            elif reduced[0] is _MAKE_CLASS or reduced[0] is _MAKE_ENUM:
                return self._complete_class(obj, reduced)
        return reduced

    def _complete_class(self, cls: Any, reduced: Any) -> Any:
        if reduced[0] is _MAKE_ENUM:
            reduced = _reduce_enumeration(cls)
        else:
            made = ctypes_reducers.reduce_type(cls)
            if made is not None:
                return made
        (*_, given, _, _), (attributes, _) = reduced[1:3]
        given["__qualname__"] = "".join(cls.__qualname__)
        _add_overlooked(cls, attributes)
        self._note_use(cls, attributes)
        ctypes_reducers.split_structure(given, attributes)
        return _keep_slots(cls, reduced) if "__slots__" in vars(cls) else reduced

    def _reduce_instance(self, obj: Any, kind: type) -> Any:
        make_anew = reducers.MADE_ANEW.get(kind)
        if make_anew is not None:
            return make_anew(obj) if id(obj) in self._made_anew else NotImplemented
        reduce = self._reducers.get(kind) or self._find_reducer(kind)
        if reduce is None:
            self._usual.add(kind)
            return NotImplemented
        self._reducers[kind] = reduce
        return reduce(obj)

    def _find_reducer(self, kind: type) -> Callable[[Any], Any] | None:
        if issubclass(kind, ctypes_reducers.POINTER_TO_FUNCTION):
            return ctypes_reducers.reduce_function
        if reducers.is_open_file(kind):
            return reducers.reduce_file
        reduce = instances.reducer_of(kind)
        if reduce is None or kind in self.dispatch_table:
            return None
        return None if reducers.is_importable(kind) else reduce

    def _note_use(self, user: Any, names: Mapping[str, Any]) -> None:
        self._used.append((user, names))
        for value in names.values():
            self._note_made_anew(value, _DEPTH)

    def _note_made_anew(self, value: Any, depth: int) -> None:
        if type(value) in reducers.MADE_ANEW:
            self._made_anew.add(id(value))
        elif isinstance(value, dict | list | tuple):
            if depth and len(value) <= _FEW:
                items = value.values() if isinstance(value, dict) else value
                for each in tuple(items):
                    self._note_made_anew(each, depth - 1)
        elif depth and not isinstance(value, _NO_INSTANCES):
            with contextlib.suppress(Exception):  # a proxy may raise anything
                for each in tuple(vars(value).values()):
                    self._note_made_anew(each, depth - 1)

    def _blame(self, error: Exception) -> None:
        """Note which variable cannot be pickled, of the innermost user of one.

        The program's own function is named, rather than that of a library that is in
        the variable.
        """
        innermost = self._used[::-1]
        for user, names in sorted(innermost, key=lambda each: not _is_own(each[0])):
            for name, value in names.items():
                if not _can_be_sent(value, self._made_anew):
                    note = f"{user.__qualname__} uses {name!r}, which cannot be sent"
                    values.add_note(error, note)
                    return


def _can_be_sent(value: object, made_anew: Iterable[int] = ()) -> bool:
    probe = ByValuePickler(io.BytesIO())
    probe._made_anew.update(made_anew)
    try:
        super(ByValuePickler, probe).dump(value)
    except Exception:  # noqa: BLE001  (whatever a reducer may raise)
        return False
    return True


def _is_own(user: Any) -> bool:
    """Whether a function or class is that of the program, not of a library."""
    return bool(user.__module__ == "__main__")


def _is_lost(obj: Any) -> bool:
    """Whether it is a function or class of a module that jobs do not find."""
    if isinstance(obj, type):
        return bool(obj.__flags__ & _HEAP_TYPE) and not is_found(obj.__module__)
    if type(obj) is not types.FunctionType:
        return False
    # The nodes need not have this package.
    return obj.__module__ in _OURS or not is_found(obj.__module__)


def _closure(function: types.FunctionType) -> dict[str, Any]:
    found = {}
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        with contextlib.suppress(ValueError):  # it is empty
            found[name] = cell.cell_contents
    return found


def _reduce_enumeration(cls: Any) -> Any:
    """Send an enumeration with its members as they are; cloudpickle sends their values.

    Of these it would make members anew, without the program's `__new__` and `__init__`.
    """
    names, slots = _get_state(cls)
    members = cls.__members__
    names["_value2member_map_"] = {
        value: member
        for value, member in cls._value2member_map_.items()
        if members.get(member._name_) is member  # not several flags together
    }
    *arguments, _ = _get_arguments(cls)
    state = names, slots
    return _MAKE_CLASS, (*arguments, True), state, None, None, _SET_STATE


def _add_overlooked(cls: Any, names: dict[str, Any]) -> None:
    """Add what cloudpickle takes for inherited, though it is that of another base."""
    if len(cls.__bases__) == 1:
        return
    for name, value in vars(cls).items():
        if name not in names and not isinstance(value, _MADE_WITH_CLASS):
            bases = (vars(base) for base in cls.__mro__[1:])
            inherited = next((each[name] for each in bases if name in each), value)
            if inherited is not value:
                names["".join(name)] = value


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
