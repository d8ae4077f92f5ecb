"""Reducers for types and libraries of ctypes, which a job can load anew."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import operator
import sys
from collections.abc import Callable, Mapping
from typing import Any


class _Probe(ctypes.Structure):
    _fields_ = (("field", ctypes.c_int),)


#: The type of what a structure has for each of its `_fields_`.
FIELD: type = type(vars(_Probe)["field"])
#: Attributes of a structure that must be there before its fields.
_LAYOUT = frozenset({"_pack_", "_align_", "_layout_", "_anonymous_"})
POINTER_TO_FUNCTION: type = ctypes._CFuncPtr  # type: ignore[attr-defined]
#: What classes of ctypes are instances of; these have no name of their own.
_ARRAY, _POINTER, _FUNCTION, _SIMPLE, *_ = _METACLASSES = {
    type(each): each
    for each in (
        *(ctypes.Array, ctypes._Pointer, POINTER_TO_FUNCTION, ctypes._SimpleCData),
        *(ctypes.Structure, ctypes.Union),
    )
}
#: A type of the other order of bytes; its ctype of that order is itself.
_OTHER_ORDER = {"little": "__ctype_be__", "big": "__ctype_le__"}[sys.byteorder]
_THIS_ORDER = {"little": "__ctype_le__", "big": "__ctype_be__"}[sys.byteorder]
_USE_ERRNO = 8

#: What is set for a function of a library: restype, argtypes, errcheck.
_Settings = tuple[Any, Any, Any]


def reduce_type(cls: Any) -> tuple[Any, ...] | None:
    """Reduce a type that ctypes makes of others: arrays, pointers and functions."""
    if cls in _METACLASSES:
        return type, (_METACLASSES[cls],)
    kind = type(cls)
    with contextlib.suppress(AttributeError, TypeError):  # a class that derives from it
        if kind is _ARRAY and cls is cls._type_ * cls._length_:
            return operator.mul, (cls._type_, cls._length_)
        if kind is _SIMPLE and cls is not getattr(cls, _THIS_ORDER):
            return getattr, (getattr(cls, _THIS_ORDER), _OTHER_ORDER)
        if kind is _POINTER and cls is ctypes.POINTER(cls._type_):
            return ctypes.POINTER, (cls._type_,)
        if kind is _FUNCTION:
            make = functools.partial(
                ctypes.CFUNCTYPE, use_errno=bool(cls._flags_ & _USE_ERRNO)
            )
            if cls is make(cls._restype_, *cls._argtypes_):
                return make, (cls._restype_, *cls._argtypes_)
    return None


def split_structure(namespace: dict[str, Any], attributes: dict[str, Any]) -> None:
    """Let a structure be made as it was; its `_fields_` make an attribute of each.

    Args:
        namespace: attributes that the class has when it is made.
        attributes: those that it is given later, `_fields_` among them.
    """
    if "_fields_" in attributes:
        for name, value in list(attributes.items()):
            if isinstance(value, FIELD):
                del attributes[name]
            elif name in _LAYOUT:
                namespace[name] = attributes.pop(name)


def reduce_function(function: Any) -> tuple[Any, ...]:
    """Reduce a function of a library, or one of Python that C may call."""
    kept = function._objects
    kept = kept.get("0") if isinstance(kept, dict) else None
    if isinstance(kept, ctypes.CDLL):
        return make_function, (kept, function.__name__, _settings(function))
    # One that C may call keeps what it calls, and the types of arguments and value.
    types_of_it = type(kept), type(function)._restype_
    called = [
        each
        for each in gc.get_referents(kept)
        if callable(each) and not any(each is known for known in types_of_it)
    ]
    if type(kept).__name__ == "CThunkObject" and len(called) == 1:
        return type(function), (called[0],)
    raise TypeError(
        f"{function!r} is an address in this process, which cannot be copied: "
        "load its library, or make it, in the call"
    )


def reduce_library(library: Any) -> tuple[Any, ...]:
    """Reduce a library with what the program has set for its functions."""
    functions = {
        name: _settings(each)
        for name, each in vars(library).items()
        if isinstance(each, POINTER_TO_FUNCTION)
    }
    use_errno = bool(library._FuncPtr._flags_ & _USE_ERRNO)
    return make_library, (type(library), library._name, use_errno, functions)


def _settings(function: Any) -> _Settings:
    return function.restype, function.argtypes, function.errcheck


def make_function(library: Any, name: str, settings: _Settings) -> Any:
    """Find a function in a library."""
    function = library[name]
    function.restype, function.argtypes, errcheck = settings
    if errcheck is not None:
        function.errcheck = errcheck
    return function


def make_library(
    kind: Callable[..., Any],
    name: str | None,
    use_errno: bool,
    functions: Mapping[str, _Settings],
) -> Any:
    """Load a library."""
    library = kind(name, use_errno=use_errno)
    for each, settings in functions.items():
        setattr(library, each, make_function(library, each, settings))
    return library


REDUCERS = {ctypes.CDLL: reduce_library, ctypes.PyDLL: reduce_library}
