"""Global variables that functions use and cloudpickle does not see.

Those that only the body of a class within the function uses, and what the program or
its notebook has added to the module `builtins`.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cloudpickle

_names_in: Callable[[types.CodeType], Mapping[str, object]] = (
    cloudpickle.cloudpickle._extract_code_globals
)
#: How the body of a class looks for a name: among its own, then in those of the module.
LOOKS_IN_CLASSES = {"LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
#: Where what Python itself has in `builtins` comes from.
_OF_PYTHON = {"builtins", "io", "_io", "_sitebuiltins"}


def _is_of_python(value: object) -> bool:
    kind = type(value).__module__
    return getattr(value, "__module__", kind) in _OF_PYTHON


_python = {name: each for name, each in vars(builtins).items() if _is_of_python(each)}


def overlooked(
    function: types.FunctionType, can_be_sent: Callable[[Any], bool]
) -> dict[str, Any]:
    """Return what a function uses besides the variables that cloudpickle sends.

    What others have put into `builtins` is often of no use elsewhere: it stays here if
    it cannot be sent.
    """
    known = function.__globals__
    in_classes = tuple(_names_in_classes(function.__code__))
    found = {name: known[name] for name in in_classes if name in known}
    for name in (*_names_in(function.__code__), *in_classes):
        if name == "get_ipython" and "IPython" in sys.modules:
            # Here it is a method of the notebook, which does not fit into a call.
            found[name] = sys.modules["IPython"].get_ipython
        elif name not in known and _is_added(name):
            value = getattr(builtins, name)
            if can_be_sent(value):
                found[name] = value
    return found


def _is_added(name: str) -> bool:
    missing = object()
    value = vars(builtins).get(name, missing)
    return value is not missing and value is not _python.get(name, missing)


def _names_in_classes(code: types.CodeType) -> Iterator[str]:
    """Yield the names that bodies of classes look for, at any depth."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if not constant.co_flags & inspect.CO_OPTIMIZED:
                for each in dis.get_instructions(constant):
                    if each.opname in LOOKS_IN_CLASSES:
                        yield str(each.argval)
            yield from _names_in_classes(constant)
