"""The state of the caller that a call finds again: as it was at `submit` or `map`.

Environment, `sys.path`, `sys.argv`, decimal context, recursion limit, limit for the
digits of integers, and warnings filters. `node/state.py` enters it in the job. What
else a program has set up (attributes of modules, logging, ...) is for an initializer.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slurm_futures.calls.search_path import search_path
from slurm_futures.node.state import DEFAULT_DIGITS, DEFAULT_RECURSION

#: The environment of this process some time ago. A state tells what is different.
_start = dict(os.environ)

#: Variables with such a name are the job's own.
_OF_SLURM = "SLURM_"

#: What decimal and warnings begin with.
_PLAIN_DECIMAL = (
    (28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0),
    {"DivisionByZero", "InvalidOperation", "Overflow"},
)
_PLAIN_FILTERS = [
    ("default", None, DeprecationWarning, "__main__", 0),
    ("ignore", None, DeprecationWarning, None, 0),
    ("ignore", None, PendingDeprecationWarning, None, 0),
    ("ignore", None, ImportWarning, None, 0),
    ("ignore", None, ResourceWarning, None, 0),
]


@dataclass(frozen=True, slots=True, eq=False)
class CallerState:
    """What `node/state.py` describes, as far as it is known here.

    Attributes:
        variables: of the environment, as far as it is not as it was once; None: not
            set. The rest stays where it is: there may be a state for each call.
        settings: the other parts; `path` may hold relative entries.
    """

    variables: Mapping[str, str | None]
    settings: Mapping[str, Any]

    def environment(self) -> dict[str, str]:
        """Return the whole environment."""
        whole = {**_start, **self.variables}
        return {name: value for name, value in whole.items() if value is not None}

    def describe(self, base: CallerState, cwd: str) -> dict[str, Any]:
        """Return what a job must know.

        Args:
            base: the state with whose environment the job begins. No variable that is
                as there is written into a file: its value may be a secret.
            cwd: the directory of the caller.
        """
        path = search_path(self.settings["path"], cwd)
        return {**self.settings, "path": path, "environment": self._changes(base)}

    def _changes(self, base: CallerState) -> dict[str, tuple[str | None, str | None]]:
        changes = {}
        for name in self.variables.keys() | base.variables.keys():
            start = _start.get(name)
            pair = base.variables.get(name, start), self.variables.get(name, start)
            if pair[0] != pair[1] and not name.startswith(_OF_SLURM):
                changes[name] = pair
        return changes


def _capture() -> Callable[[], CallerState]:
    """Return a function that captures the state of its caller.

    It is called with each submit, so it compares what there is with what it saw last,
    and mostly returns the same object: 4 µs.
    """
    last: tuple[Any, Any, CallerState] | None = None

    def capture() -> CallerState:
        nonlocal last
        # Its bytes: to decode all of them would take ten times as long.
        environment = getattr(os.environ, "_data", os.environ)
        rest: tuple[Any, ...] = (
            sys.path,
            sys.argv,
            sys.getrecursionlimit(),
            sys.get_int_max_str_digits(),
            _decimal_context(),
            warnings.filters,
        )
        known = last
        if known is None or known[0] != environment or known[1] != rest:
            seen = tuple(
                list(each) if isinstance(each, list) else each for each in rest
            )
            # A copy: other threads may change what there is.
            copied = environment.copy()
            now = {os.fsdecode(name): os.fsdecode(copied[name]) for name in copied}
            changed = {name for name, _ in now.items() ^ _start.items()}
            variables = {name: now.get(name) for name in changed}
            state = CallerState(variables, _describe(*seen))
            last = known = (copied, seen, state)
        return known[2]

    return capture


capture_state = _capture()


def _describe(
    path: Any, argv: Any, recursion: Any, digits: Any, decimal: Any, filters: Any
) -> dict[str, Any]:
    return {
        "path": path,
        "argv": argv,
        "recursion": None if recursion == DEFAULT_RECURSION else recursion,
        "digits": None if digits == DEFAULT_DIGITS else digits,
        "decimal": decimal,
        "filters": (
            None if filters == _PLAIN_FILTERS else list(map(_describe_filter, filters))
        ),
    }


def _decimal_context() -> tuple[tuple[Any, ...], set[str]] | None:
    """Return what the context of this thread is made of; None: as at the start."""
    decimal = sys.modules.get("decimal")
    if decimal is None:
        return None
    now = decimal.getcontext()
    numbers = (now.prec, now.rounding, now.Emin, now.Emax, now.capitals, now.clamp)
    traps = {signal.__name__ for signal, trapped in now.traps.items() if trapped}
    return None if (numbers, traps) == _PLAIN_DECIMAL else (numbers, traps)


def _describe_filter(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    action, message, category, module, line = entry
    return (
        action,
        _describe_pattern(message),
        [
            (each.__module__, each.__qualname__)
            for each in (category if isinstance(category, tuple) else (category,))
        ],
        _describe_pattern(module),
        line,
    )


def _describe_pattern(pattern: Any) -> Any:
    """Return text that must be equal as it is, and of a pattern its text and flags."""
    if pattern is None or isinstance(pattern, str):
        return pattern
    return pattern.pattern, pattern.flags
