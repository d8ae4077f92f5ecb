"""Tells by a digest whether two calls are equal, also in another process.

Two calls that differ have different digests. Where it cannot be seen whether they do,
there is none. What counts is what travels to a job (`pickler.py`): values by their
contents, functions and classes of a script by their code and all that it uses, those
of modules by their name and the code of the module (`origins.py`).
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slurm_futures.calls import atoms
from slurm_futures.calls.contents import Known, Unseen, encode, name_type

#: Bytes of a digest.
_SIZE = 20
_PYTHON = sys.implementation.name, *sys.version_info, sys.flags.optimize


@dataclass(frozen=True, slots=True)
class FunctionDigest:
    """What function calls have in common."""

    #: Module and qualified name: the same one after a change of the code.
    name: str
    #: None if it cannot be seen whether another function is equal.
    digest: bytes | None
    #: The type of what is to blame for that.
    cause: str = ""


def digest_function(function: Callable[..., Any]) -> FunctionDigest:
    """Look at a function and at all that it uses, as it is now."""
    return _digest_function(function, Known())


class CallDigests:
    """Digests of calls of one function; made anew for each map.

    Args:
        function: as it is now; what it uses is not looked at again.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._known = Known()
        self.function = _digest_function(function, self._known)
        #: For how many calls there is no digest, by the type that is the cause.
        self.causes: Counter[str] = Counter()

    def of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes | None:
        """Return the digest of a call: 20 bytes, or None."""
        if self.function.digest is None:
            self.causes[self.function.cause] += 1
            return None
        try:
            arguments = encode((tuple(args), dict(kwargs)), self._known)
        except Unseen as unseen:
            self.causes[unseen.kind] += 1
            return None
        return atoms.digest(self.function.digest + arguments, _SIZE)


def _digest_function(function: Any, known: Known) -> FunctionDigest:
    name = _name_function(function)
    try:
        encoding = encode(_PYTHON, known) + encode(function, known)
    except Unseen as unseen:
        return FunctionDigest(name, None, unseen.kind)
    return FunctionDigest(name, atoms.digest(encoding, _SIZE))


def _name_function(function: Any) -> str:
    while type(function) is functools.partial:
        function = function.func
    try:
        return f"{function.__module__}.{function.__qualname__}"
    except Exception:  # noqa: BLE001  (an instance has none; a proxy may raise anything)
        return name_type(type(function))
