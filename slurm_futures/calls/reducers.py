"""Reducers for what cloudpickle cannot pickle, though a job can have it anew."""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import copyreg
import functools
import gc
import hashlib
import hmac
import io
import json.scanner
import multiprocessing.connection
import pickle
import queue
import random
import re
import struct
import sys
import tempfile
import threading
import types
import typing
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NoReturn, cast

import cloudpickle

from slurm_futures.calls.search_path import is_found
from slurm_futures.node.by_value import keep_file_name, refusal_of_file

#: What pickle's reducers return.
Reduced = str | tuple[Any, ...]

_FILES: tuple[type, ...] = (
    io.TextIOWrapper,
    io.BufferedReader,
    io.BufferedWriter,
    io.BufferedRandom,
    io.BufferedRWPair,
    io.FileIO,
    tempfile._TemporaryFileWrapper,
    tempfile.SpooledTemporaryFile,
)
_REDUCTIONS = "__reduce_ex__", "__reduce__", "__getstate__"


def is_importable(obj: Any) -> bool:
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


def is_open_file(kind: type) -> bool:
    """Whether it is a type of files that has no reduction of the program's own."""
    return kind not in copyreg.dispatch_table and any(
        issubclass(kind, each)
        and all(getattr(kind, n, None) is getattr(each, n, None) for n in _REDUCTIONS)
        for each in _FILES
    )


def reduce_file(file: Any) -> Any:
    """Leave the standard streams to cloudpickle: those of the job take their place.

    Of another file cloudpickle would send what is in it. What a call writes then is
    gone with the job.
    """
    if any(file is each for each in (sys.stdin, sys.stdout, sys.stderr)):
        return NotImplemented
    raise TypeError(refusal_of_file(file))


def refuse_future(future: Future[Any]) -> NoReturn:
    """Say where one may be."""
    raise TypeError(
        f"cannot pickle a {type(future).__name__}: it belongs to this process. It "
        "stands for its value where it is an argument, or in a list, tuple or dict "
        "that is one; elsewhere pass its result()"
    )


def _by_value(
    reduce: Callable[[Any], tuple[Any, ...]],
) -> Callable[[Any], Reduced]:
    """Return a reducer for objects that pickle and cloudpickle write as names."""

    def reduce_unless_importable(obj: Any) -> Reduced:
        if is_importable(obj):
            return cast("Reduced", obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL))
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


def _reduce_connection(_: Any) -> Reduced:
    # Its own reducer writes the number of a descriptor, which means another file there.
    raise TypeError(
        "a connection of multiprocessing is a descriptor of this process: a job, which "
        "may run on another machine, cannot use it"
    )


_REDUCE_CODE: Callable[[Any], Reduced] = cloudpickle.Pickler.dispatch_table[
    types.CodeType
]
_REDUCE_MODULE: Callable[[Any], Reduced] = cloudpickle.Pickler.dispatch_table[
    types.ModuleType
]


def _reduce_code(code: Any) -> Reduced:
    return keep_file_name(code, _REDUCE_CODE(code))


def _reduce_module(module: types.ModuleType) -> Reduced:
    if is_found(module.__name__):
        return _REDUCE_MODULE(module)
    own = {"__builtins__", "__spec__", "__loader__"}
    state = {name: each for name, each in vars(module).items() if name not in own}
    return types.ModuleType, (module.__name__,), state


def _reduce_match(match: re.Match[Any]) -> Reduced:
    """Find the same again: a match does not tell by which method it was found."""
    for start in (match.pos, match.start()):
        for method in (match.re.match, match.re.search, match.re.fullmatch):
            again = method(match.string, start, match.endpos)
            if again is not None and again.regs == match.regs:
                return method, (match.string, start, match.endpos)
    raise TypeError("cannot find this match again in its text")


def _reduce_hash(each: Any) -> Reduced:
    options = {"digest_size": each.digest_size} if "blake2" in each.name else {}
    make = functools.partial(hashlib.new, each.name, **options)
    length = () if each.digest_size else (32,)  # of one that is as long as one likes
    if each.digest(*length) != make().digest(*length):
        raise TypeError(
            f"a {each.name} that has been given bytes, or a key, cannot be copied: "
            "send these, and make it in the call"
        )
    return make, ()


def _reduce_authentication(_: Any) -> Reduced:
    raise TypeError(
        "an hmac object cannot be copied: send its key and its message, and make it in "
        "the call"
    )


def _reduce_weak_items(weak: Any) -> Reduced:
    """Reduce what holds its items as long as somebody else does."""
    items = dict(weak) if isinstance(weak, Mapping) else list(weak)
    return type(weak), (), items or None, None, None, hold_items


def hold_items(weak: Any, items: Any) -> None:
    """Fill it with what the program holds, and in a job nobody else may hold."""
    weak.update(items)
    weak.held_in_job = items


def _reduce_key(key: Any) -> Reduced:
    """Reduce what functools.cmp_to_key returns, or that with an object."""
    compare, *of = (each for each in gc.get_referents(key) if each is not type(key))
    make = functools.cmp_to_key(compare) if of else functools.cmp_to_key
    return make, tuple(of or [compare])


def _reduce_scanner(scanner: Any) -> Reduced:
    """Reduce what each json.JSONDecoder has."""
    names = "strict object_hook object_pairs_hook parse_float parse_int parse_constant"
    settings = {name: getattr(scanner, name) for name in names.split()}
    return _MakeScanner(), (types.SimpleNamespace(**settings),)


class _MakeScanner:
    """Stands for json.scanner.c_make_scanner, which calls itself Scanner."""

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (json.scanner, "c_make_scanner")

    def __call__(self) -> None:
        """Do nothing; pickle asks for it."""


def reducers() -> dict[Any, Callable[[Any], Reduced]]:
    """Return what cloudpickle lacks; the types of some exist in newer Pythons only."""
    cache = functools.lru_cache(abs)
    found: dict[Any, Callable[[Any], Reduced]] = {
        type(cache): _by_value(_reduce_cache),
        types.CodeType: _reduce_code,
        types.ModuleType: _reduce_module,
        functools.cached_property: _reduce_cached_property,  # has a lock until 3.11
        Future: refuse_future,
        typing.NewType: _by_value(_reduce_new_type),
        typing.ParamSpec: _by_value(_reduce_parameters),
        typing.TypeVarTuple: _by_value(_reduce_parameters),
        multiprocessing.connection.Connection: _reduce_connection,
        struct.Struct: lambda each: (struct.Struct, (each.format,)),
        re.Match: _reduce_match,
        random.SystemRandom: lambda each: (type(each), ()),
        type(functools.cmp_to_key(max)): _reduce_key,
        type(vars(json.JSONDecoder())["scan_once"]): _reduce_scanner,
        hmac.HMAC: _reduce_authentication,
        weakref.WeakKeyDictionary: _reduce_weak_items,  # functools.singledispatch
        weakref.WeakValueDictionary: _reduce_weak_items,
        weakref.WeakSet: _reduce_weak_items,
    }
    for name in hashlib.algorithms_guaranteed:
        found[type(hashlib.new(name))] = _reduce_hash
    if hasattr(typing, "TypeAliasType"):
        found[typing.TypeAliasType] = _by_value(_reduce_alias)
    return found


def _reduce_context_variable(variable: Any) -> Reduced:
    kind: Callable[..., Any] = contextvars.ContextVar
    with contextlib.suppress(LookupError):
        default = contextvars.Context().run(variable.get)
        kind = functools.partial(contextvars.ContextVar, default=default)
    if variable not in contextvars.copy_context():
        return kind, (variable.name,)
    return make_variable, (kind, variable.name, variable.get())


def make_variable(make: Callable[[str], Any], name: str, value: Any) -> Any:
    """Make a context variable that has a value."""
    variable = make(name)
    variable.set(value)
    return variable


def _reduce_reference(reference: weakref.ref[Any]) -> Reduced:
    referent = reference()
    if referent is None:
        return weakref.ref, (set(),)  # which nobody else has
    return make_reference, (referent, reference.__callback__)


def make_reference(referent: Any, callback: Any) -> weakref.ref[Any]:
    """Refer to an object that `__main__` keeps, in a job as in the program."""
    names = vars(sys.modules["__main__"])
    names.setdefault("__referents__", []).append(referent)
    return weakref.ref(referent, callback)


#: What functions and classes may use as global variables and attributes though it
#: cannot be copied: the job gets a new one, as from a module that is imported there.
MADE_ANEW: dict[type, Callable[[Any], Reduced]] = {
    type(threading.Lock()): lambda _: (_thread.allocate_lock, ()),
    type(threading.RLock()): lambda each: (type(each), ()),
    threading.local: lambda each: (type(each), ()),
    queue.SimpleQueue: lambda each: (type(each), ()),
    weakref.ref: _reduce_reference,
    contextvars.ContextVar: _reduce_context_variable,
}
