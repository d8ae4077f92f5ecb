"""Pickles functions, classes and what they refer to, more of it than cloudpickle does.

Functions and classes of `__main__`, lambdas and closures travel by value, all others
by reference, as cloudpickle decides.
"""

from __future__ import annotations

import functools
import io
import pickle
import sys
import types
import typing
import weakref
from collections import ChainMap
from collections.abc import Callable
from typing import Any, ClassVar, cast

import cloudpickle

CLOUDPICKLE_VERSION = str(cloudpickle.__version__)

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
