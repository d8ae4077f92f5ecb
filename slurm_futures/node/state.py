"""Lets calls find the state of the caller again, as it was at `submit` or `map`.

A state is a dict:

    environment   name -> (value when the job began, value at submit), where these are
                  different; None: it is not set
    path, argv    sys.path, with absolute entries, and sys.argv
    recursion     sys.getrecursionlimit(), None: the default; `digits` likewise
    decimal       numbers of the context and names of its traps; None: the default
    filters       those of `warnings`; None: the default

Of two states one after another (a worker of a pool) only what differs is changed. So
what the job has of its own stays: variables that Slurm, the setup lines, an initializer
or a call have set, and entries that they have added to `sys.path`.
"""

from __future__ import annotations

import os
import sys

from .modules import path_here

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import Any

DEFAULT_RECURSION, DEFAULT_DIGITS = 1000, 4300

#: Names of what a state holds that is as in any other Python until it is entered.
_SETTINGS = ("recursion", "digits", "decimal")
#: Of decimal.
_OF_CONTEXT = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")

#: The state in which this job is; None: it has just begun.
_entered: dict[str, Any] | None = None
#: Whether the job got the environment of the client (sbatch --export).
_exported = True
#: Those of a state, and what they are here.
_filters: list[Any] | None = None
_own_filters: list[Any] = []


def begin(*, exported: bool) -> None:
    """Note that the job has begun, and whether with the environment of the client."""
    global _entered, _exported, _filters  # noqa: PLW0603  (one process, one client)
    _exported = exported
    _filters = None
    _entered = {"environment": {}, "path": None, "argv": None}
    _entered |= dict.fromkeys((*_SETTINGS, "filters"))


def enter(state: dict[str, Any]) -> None:
    """Enter the state of a call, before what it brings along is loaded."""
    global _entered  # noqa: PLW0603
    before = _entered
    if before is None or state is before or state == before:
        return
    if _exported and state["environment"] != before["environment"]:
        _change_environment(before["environment"], state["environment"])
    if state["path"] != before["path"]:
        _change_path(before["path"], state["path"])
    if state["argv"] != before["argv"]:
        sys.argv[:] = state["argv"]
    if state["recursion"] != before["recursion"]:
        sys.setrecursionlimit(state["recursion"] or DEFAULT_RECURSION)
    if state["digits"] != before["digits"]:
        digits = state["digits"]
        sys.set_int_max_str_digits(DEFAULT_DIGITS if digits is None else digits)
    if state["decimal"] != before["decimal"]:
        _change_decimal(state["decimal"])
    _entered = state


def _change_environment(
    before: dict[str, tuple[str | None, str | None]],
    after: dict[str, tuple[str | None, str | None]],
) -> None:
    """Go from one to the other; a variable that the job has changed stays."""
    for name in before.keys() | after.keys():
        start = (before.get(name) or after[name])[0]
        old = before[name][1] if name in before else start
        new = after[name][1] if name in after else start
        if old == new or os.environ.get(name) != old:
            continue
        if new is None:
            del os.environ[name]
        else:
            os.environ[name] = new


def _change_path(before: list[str] | None, after: list[str]) -> None:
    """Go from one to the other; what the job has put in front or behind stays."""
    wanted = path_here(after)
    if before is None:
        sys.path[:] = wanted
        return
    known = {*path_here(before), *wanted}
    front = []
    for entry in sys.path:
        if entry in known:
            break
        front.append(entry)
    behind = [entry for entry in sys.path[len(front) :] if entry not in known]
    sys.path[:] = [*front, *wanted, *behind]


def _change_decimal(context: tuple[Any, set[str]] | None) -> None:
    import decimal

    if context is None:
        decimal.setcontext(decimal.DefaultContext)
        return
    numbers, names = context
    arguments: dict[str, Any] = dict(zip(_OF_CONTEXT, numbers, strict=True))
    arguments["traps"] = [getattr(decimal, name) for name in names]
    decimal.setcontext(decimal.Context(**arguments))


def filter_warnings() -> None:
    """Filter warnings as the caller does, once what the call brings is loaded.

    Modules that are imported by then may have added filters; the client's have, too.
    """
    global _filters  # noqa: PLW0603
    wanted = None if _entered is None else _entered["filters"]
    if wanted == _filters:
        return
    import warnings

    if _filters is None:
        _own_filters[:] = warnings.filters
    made = _own_filters if wanted is None else [_make_filter(*each) for each in wanted]
    warnings.resetwarnings()  # which also lets it forget what it has found so far
    warnings.filters[:] = made  # type: ignore[index]  # it is a list
    _filters = wanted


def _make_filter(
    action: str, message: Any, names: list[tuple[str, str]], module: Any, line: int
) -> tuple[Any, ...]:
    found = tuple(map(_find, names))
    category = found[0] if len(found) == 1 else found
    return action, _make_pattern(message), category, _make_pattern(module), line


def _make_pattern(text: Any) -> Any:
    return _LazyPattern(*text) if isinstance(text, tuple) else text


class _LazyPattern:
    """A regular expression that is compiled when a warning comes: most jobs have none.

    `warnings` calls nothing but `match`.
    """

    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern = pattern
        self.flags = flags

    def match(self, text: str) -> object:
        """Match it with the beginning of a text."""
        import re

        return re.compile(self.pattern, self.flags).match(text)


def _find(category: tuple[str, str]) -> type:
    """Return a class of warnings, without an import of its module."""
    module, name = category
    if module == "builtins":
        import builtins

        found: type = getattr(builtins, name)
        return found
    return _Named(name, (Warning,), {"__module__": module})


class _Named(type):
    """The type of a class that stands for another one, which may not be loaded yet."""

    def __subclasscheck__(cls, other: type) -> bool:
        """Whether a class is the one of this name, or derives from it."""
        wanted = cls.__module__, cls.__qualname__
        return any((e.__module__, e.__qualname__) == wanted for e in other.__mro__)
