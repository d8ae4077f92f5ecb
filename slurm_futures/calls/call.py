"""A call: a function with its arguments, as bytes.

`pickler.py` says what travels by value and what by reference.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slurm_futures.calls.pickler import dump
from slurm_futures.calls.state import CallerState, capture_state
from slurm_futures.node.formats import UNNUMBERED


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Blob:
    """A pickled object; other than bytes it can be referred to weakly."""

    content: bytes


@dataclass(frozen=True, slots=True)
class PickledCall:
    """One function with its arguments, as they were when the call was submitted."""

    function: bytes
    arguments: bytes
    #: Large objects to which the arguments refer by their place (`shared_objects.py`).
    shared: tuple[Blob, ...] = ()
    state: CallerState = field(default_factory=capture_state)
    #: Its place among all calls of the executor, which it keeps in a later attempt.
    number: int = UNNUMBERED
    #: Of function and arguments; empty: none was made.
    digest: bytes = b""


#: Types that the C pickler knows by itself: eight times as fast as cloudpickle.
PLAIN = frozenset({int, float, complex, str, bytes, bool, type(None)})


def dump_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], limit: int | None = None
) -> bytes:
    """Pickle the arguments of one call, as `dump` does."""
    if not kwargs and all(type(each) in PLAIN for each in args):
        return pickle.dumps((tuple(args), {}), pickle.HIGHEST_PROTOCOL)
    return dump((tuple(args), dict(kwargs)), limit)


def function_name(fn: Callable[..., Any]) -> str:
    """Return a name for people: of the function, or of what it is a partial of."""
    try:
        inner = getattr(fn, "func", fn)
        name = getattr(inner, "__name__", None) or type(inner).__name__
        return str(name)
    except Exception:  # noqa: BLE001  (a proxy may raise anything)
        return type(fn).__name__
