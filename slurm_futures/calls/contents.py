"""Encodes values by their contents, as they would arrive in a job.

Two that differ have different encodings, and two copies have the same one, in each
process. What cannot be told apart in this way is `Unseen`.
"""

from __future__ import annotations

import enum
import io
import pickle
import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

from slurm_futures.calls import atoms, reducers
from slurm_futures.calls.definitions import (
    ModuleName,
    describe_code_object,
    parts_of_class,
    parts_of_function,
)
from slurm_futures.calls.origins import describe_code
from slurm_futures.calls.pickler import ByValuePickler
from slurm_futures.calls.search_path import is_found

#: Of reducers: the last one in which buffers are bytes.
_PROTOCOL = 4
#: How deep values may lie in each other.
_DEPTH = 100

#: Flag of a class that was made in Python, or while it ran.
_HEAP_TYPE = 1 << 9
_PARAMETERS = (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple)
_ABOUT_PARAMETERS = tuple(
    f"__{name}__"
    for name in "module name bound constraints covariant contravariant default".split()
)
#: Attributes of members of an enumeration that it can do without, or finds again.
_OF_MEMBERS = {"__objclass__", "_sort_order_", "_inverted_"}


class Unseen(Exception):
    """It cannot be seen whether two values of a type are equal."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class _Loop(Exception):
    """A value contains itself."""


def name_type(kind: type) -> str:
    """Return a name of a type for people."""
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def encode(value: Any, known: Known) -> bytes:
    """Encode a value by its contents, whatever is around it."""
    encode = atoms.ATOMS.get(type(value))
    if encode is not None:
        return encode(value)
    try:
        try:
            return _Walk(known).encode(value)
        except _Loop:
            return b"@" + _Walk(known, looped=True).encode(value)
    except RecursionError:
        raise Unseen(f"{name_type(type(value))} (nested too deep)") from None


def _encode_definition(obj: Any, known: Known) -> bytes:
    """Encode a function or class that travels by value, with all those it uses."""
    key = id(obj)
    if key in known.open:  # it uses a set with itself in it
        raise Unseen("set")
    known.open.add(key)
    try:
        try:
            return b"D" + _Walk(known, [obj]).encode_definitions()
        except _Loop:
            return b"L" + _Walk(known, [obj], looped=True).encode_definitions()
    except (Unseen, RecursionError):
        raise
    except Exception as error:
        raise Unseen(name_type(type(obj))) from error
    finally:
        known.open.remove(key)


class Known:
    """What stays true for all calls of a map."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[Any, bytes]] = {}
        self._modules: dict[str, bytes] = {}
        #: Types of which an object was seen to have the same contents twice.
        self.steady: set[type] = set()
        #: Definitions that are being encoded.
        self.open: set[int] = set()

    def name(self, obj: Any) -> bytes | None:
        """Encode the name of a function or class, unless it travels by value."""
        known = self._names.get(id(obj))
        if known is not None:
            return known[1]
        of_c = isinstance(obj, type) and not obj.__flags__ & _HEAP_TYPE
        if not of_c and not reducers.is_importable(obj):
            return None
        encoding = self.encode_name(obj.__module__, obj.__qualname__)
        self._names[id(obj)] = obj, encoding
        return encoding

    def encode_name(self, module: str, name: str = "") -> bytes:
        """Encode a name of a module with the code that is behind it."""
        if module == "__main__":  # which is another one in a job
            raise Unseen("module __main__")
        if module not in self._modules:
            try:
                code = describe_code(module)
            except Exception:  # noqa: BLE001  (files and loaders of others)
                raise Unseen(f"module {module}") from None
            self._modules[module] = encode((module, code), self)
        text = atoms.ATOMS[str](name)
        return atoms.shorten(b"n", self._modules[module] + text)


class _Walk:
    """Encodes what can be reached from a value.

    What is in a value several times counts as if it were copies. Only within a value
    that contains itself (`looped`), and so cannot be written down, each object has a
    number, by which it is called when it is met again.

    Args:
        known: of the map.
        definitions: functions and classes that refer to each other by their place in
            this list, to which others are added; None: each is encoded with all that
            it uses.
        looped: whether objects have numbers.
    """

    def __init__(
        self, known: Known, definitions: list[Any] | None = None, looped: bool = False
    ) -> None:
        self._known = known
        self._definitions = definitions
        self._places = {id(each): at for at, each in enumerate(definitions or ())}
        self._looped = looped
        self._depth = 0
        #: Encodings of objects by their id, or numbers; None while it is encoded. With
        #: the object, so that no other one can take its place in memory.
        self._met: dict[int, tuple[Any, bytes | None]] = {}

    def encode_definitions(self) -> bytes:
        """Encode all definitions."""
        assert self._definitions is not None
        found = []
        for each in self._definitions:  # which grows
            is_class = isinstance(each, type)
            parts = parts_of_class(each) if is_class else parts_of_function(each)
            found.append(self.encode(parts))
        return atoms.digest(b"".join(found))

    def encode(self, value: Any) -> bytes:
        """Encode a value.

        Raises:
            Unseen: it has none that would be the same one in another process.
            _Loop: it contains itself.
            RecursionError: it is nested too deep.
        """
        kind = type(value)
        encode = atoms.ATOMS.get(kind)
        if encode is not None:
            return encode(value)
        try:
            if kind is types.FunctionType or issubclass(kind, type):
                return self._refer(value)
            return self._encode_object(value, kind)
        except (Unseen, _Loop, RecursionError):
            raise
        except Exception as error:
            raise Unseen(name_type(kind)) from error

    def _encode_object(self, value: Any, kind: type) -> bytes:
        key = id(value)
        met = self._met.get(key)
        if met is not None:
            if met[1] is None:
                raise _Loop
            return met[1]
        if self._depth > _DEPTH:
            raise RecursionError
        number = b"@%d;" % len(self._met) if self._looped else None
        self._met[key] = value, number
        self._depth += 1
        encoding = (_WAYS.get(kind) or _find_way(kind))(self, value)
        self._depth -= 1
        if number is None:
            if len(encoding) < atoms.WITH_DIGEST:  # so made again as fast as found
                del self._met[key]
            else:
                self._met[key] = value, encoding
        return encoding

    def _refer(self, obj: Any) -> bytes:
        """Encode a function or class."""
        name = self._known.name(obj)
        if name is not None:
            return name
        key = id(obj)
        if self._definitions is None:
            if key not in self._met:
                self._met[key] = obj, _encode_definition(obj, self._known)
            return self._met[key][1] or b""
        if key not in self._places:
            self._places[key] = len(self._definitions)
            self._definitions.append(obj)
        return b"#%d;" % self._places[key]

    def encode_list(self, value: Any) -> bytes:
        """Encode a list."""
        return atoms.shorten(b"l", b"".join(map(self.encode, value)))

    def encode_tuple(self, value: Any) -> bytes:
        """Encode a tuple."""
        return atoms.shorten(b"t", b"".join(map(self.encode, value)))

    def encode_dict(self, value: Any) -> bytes:
        """Encode a dict, in its order."""
        found = [self.encode(each) for item in value.items() for each in item]
        return atoms.shorten(b"d", b"".join(found))

    def encode_set(self, value: Any) -> bytes:
        """Encode a set, or what derives from it; its items as if they were alone."""
        kind = type(value)
        items = atoms.shorten(
            b"z", b"".join(sorted(encode(each, self._known) for each in value))
        )
        if kind is set or kind is frozenset:
            return (b"Z" if kind is set else b"z") + items
        return atoms.shorten(
            b"y", b"".join(self._all(kind, value.__getstate__())) + items
        )

    def _all(self, *values: Any) -> list[bytes]:
        return [self.encode(each) for each in values]

    def encode_member(self, member: Any) -> bytes:
        """Encode a member of an enumeration."""
        own = getattr(member, "__dict__", {}).items()
        more = {name: each for name, each in own if name not in _OF_MEMBERS}
        parts = self._all(type(member), member._name_, member._value_, more)
        return atoms.shorten(b"e", b"".join(parts))

    def encode_module(self, module: Any) -> bytes:
        """Encode a module: by name, if jobs find it."""
        name = module.__name__
        if sys.modules.get(name) is module and is_found(name):
            return self.encode_module_name(ModuleName(name))
        return self.encode_reduced(module)

    def encode_module_name(self, module: Any) -> bytes:
        """Encode a module that need not be loaded."""
        return b"m" + self._known.encode_name(module.name)

    def encode_compiled(self, function: Any) -> bytes:
        """Encode a function that Numba compiles; it gives each a random name."""
        state = {**function._reduce_states(), "uuid": None}
        return atoms.shorten(b"j", b"".join(self._all(type(function), state)))

    def encode_parameter(self, parameter: Any) -> bytes:
        """Encode a type variable; cloudpickle gives each a random name."""
        found = [getattr(parameter, name, None) for name in _ABOUT_PARAMETERS]
        return atoms.shorten(b"v", b"".join(self._all(type(parameter), *found)))

    def encode_code(self, code: Any) -> bytes:
        """Encode a code object."""
        return describe_code_object(code).encoding

    def encode_array(self, array: Any) -> bytes:
        """Encode an array of NumPy: as its pickle, by what a copy of it would be."""
        if array.dtype.hasobject:
            return self.encode_reduced(array)
        in_order = array.flags.fnc
        about = self._all(array.dtype, array.shape, bool(in_order))
        flat = array.reshape(-1, order="F" if in_order else "C")
        if not flat.flags.c_contiguous:  # an item that was repeated without a copy
            flat = flat.copy()
        content = atoms.digest(flat.view("u1").data if flat.nbytes else b"")
        return atoms.shorten(b"A", b"".join(about) + content)

    def encode_reduced(self, value: Any) -> bytes:
        """Encode what pickle would make an object of."""
        kind, steady = type(value), self._known.steady
        in_definition = self._definitions is not None
        encoding = self._encode_parts(value, _reduce(value, in_definition))
        if kind not in steady and not self._looped:
            again = self._encode_parts(value, _reduce(value, in_definition))
            if again != encoding:
                raise Unseen(name_type(kind))
            steady.add(kind)
        return encoding

    def _encode_parts(self, value: Any, reduced: Any) -> bytes:
        if isinstance(reduced, str):
            return self._known.encode_name(_find_module(value, reduced), reduced)
        make, arguments, state, items, pairs, setter = (*reduced, *[None] * 4)[:6]
        listed = [None if each is None else list(each) for each in (items, pairs)]
        parts = self._all(make, arguments, state, setter, *listed)
        return atoms.shorten(b"o", b"".join(parts))


def _reduce(value: Any, in_definition: bool) -> Any:
    """Reduce an object as the pickler does."""
    kind = type(value)
    reduce = ByValuePickler.dispatch_table.get(kind)
    if in_definition and kind in reducers.MADE_ANEW:
        reduce = reducers.MADE_ANEW[kind]
    if reduce is not None:
        return reduce(value)
    return value.__reduce_ex__(_PROTOCOL)


def _find_module(value: Any, name: str) -> str:
    """Return the module of an object that is pickled as a name."""
    of_type = type(value).__module__  # as that of NumPy's functions, which have none
    if getattr(sys.modules.get(of_type), name, None) is value:
        return of_type
    which: Callable[[Any, str], str] = vars(pickle)["whichmodule"]
    return which(value, name)


def _refuse(_: _Walk, value: Any) -> bytes:
    raise Unseen(name_type(type(value)))


_WAYS: dict[type, Callable[[_Walk, Any], bytes]] = {
    list: _Walk.encode_list,
    tuple: _Walk.encode_tuple,
    dict: _Walk.encode_dict,
    set: _Walk.encode_set,
    frozenset: _Walk.encode_set,
    types.ModuleType: _Walk.encode_module,
    ModuleName: _Walk.encode_module_name,
    types.CodeType: _Walk.encode_code,
    **dict.fromkeys(_PARAMETERS, _Walk.encode_parameter),
    # Pickled as something else, or in the order of their addresses.
    io.TextIOWrapper: _refuse,
    weakref.WeakSet: _refuse,
}


def _find_way(kind: Any) -> Callable[[_Walk, Any], bytes]:
    if isinstance(kind, enum.EnumType):
        return _Walk.encode_member
    if (kind.__module__, kind.__name__) == ("numpy", "ndarray"):
        return _Walk.encode_array
    library = kind.__module__.partition(".")[0]
    if library == "numba" and hasattr(kind, "_reduce_states"):
        return _Walk.encode_compiled
    if library == "torch" and hasattr(kind, "data_ptr"):
        return _refuse  # its pickle has an address in it
    for base in (set, frozenset):  # whose pickle has them in the order of their hashes
        if issubclass(kind, base) and all(
            getattr(kind, name) is getattr(base, name)
            for name in ("__reduce_ex__", "__reduce__", "__getstate__")
        ):
            return _Walk.encode_set
    return _Walk.encode_reduced
