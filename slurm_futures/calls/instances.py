"""Reducers for objects of the program's own classes that would run its code in a job.

To look up a member of an enumeration, or to set what lies in `__slots__`, calls
methods of the class. The object arrives as it was without them.
"""

from __future__ import annotations

import enum
import pickle
import types
from collections.abc import Callable
from typing import Any

#: What pickle's reducers return.
_Reduced = tuple[Any, ...]


def reducer_of(cls: Any) -> Callable[[Any], _Reduced] | None:
    """Return a reducer for the objects of a class, if they need one."""
    if isinstance(cls, enum.EnumType):
        return _reduce_member
    if (
        isinstance(cls.__setattr__, types.FunctionType)
        and cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and not hasattr(cls, "__setstate__")
    ):
        return _reduce_guarded
    return None


def _reduce_guarded(obj: Any) -> _Reduced:
    """Reduce an object whose `__setattr__` may refuse, or do more than set."""
    make, arguments, state, *items = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if isinstance(state, tuple) and len(state) == 2:  # with __slots__
        return make, arguments, state, *items, set_attributes
    return make, arguments, state, *items


def _reduce_member(member: Any) -> Any:
    cls = type(member)
    if cls.__members__.get(member._name_) is not member:  # several flags together
        return NotImplemented
    base = next(
        each
        for each in cls.__mro__
        if isinstance(vars(each).get("__new__"), types.BuiltinFunctionType)
    )
    arguments = member.name, base, *_arguments_of_new(base, member)
    state: Any = object.__getstate__(member)
    attributes = state[0] if isinstance(state, tuple) else state
    attributes.pop("_inverted_", None)  # what a flag has found, and finds again
    return make_member, (cls, *arguments), state, None, None, set_attributes


def _arguments_of_new(base: Any, member: Any) -> tuple[Any, ...]:
    """Return of what the built-in type makes the number, text or date."""
    if base is object:
        return ()
    if hasattr(base, "__getnewargs__"):
        return tuple(base.__getnewargs__(member))
    if "__reduce__" in vars(base):
        return tuple(base.__reduce__(member)[1])
    raise TypeError(
        f"cannot send {member!r}, a member that is a {base.__name__}, too: put its "
        "enumeration into a module that the job can import"
    )


def make_member(cls: Any, name: str, base: Any, *arguments: Any) -> Any:
    """Find a member of an enumeration, or make it while this is being made."""
    known = vars(cls).get("_member_map_", {}).get(name)
    return base.__new__(cls, *arguments) if known is None else known


def set_attributes(obj: Any, state: Any) -> None:
    """Set attributes, whatever the class of the object does about it."""
    attributes, slots = state if isinstance(state, tuple) else (state, {})
    if attributes:
        vars(obj).update(attributes)
    for name, value in slots.items():
        object.__setattr__(obj, name, value)
