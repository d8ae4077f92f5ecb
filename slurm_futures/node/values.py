"""Values to bytes, in a job: by reference where that works, else by value."""

from __future__ import annotations

import sys

from . import modules
from .formats import PROTOCOL

try:
    from _pickle import dumps, loads
except ImportError:  # not CPython
    from pickle import dumps, loads

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import Any


def dump(value: Any) -> bytes:
    """Pickle by reference where that works, else by value with cloudpickle.

    What belongs to `__main__` goes by value, and is the same there again: the client
    may have another object of the name by now. Some of it cloudpickle cannot write
    (caches of functions); that goes by reference.
    """
    main = sys.modules.get("__main__")
    if main is None or main is not modules.main_of_calls:
        return _dump(value)
    assert modules.main_of_job is not None, "they are set together"
    sys.modules["__main__"] = modules.main_of_job
    try:
        return _dump(value)
    except Exception as error:  # noqa: BLE001  (whatever a reducer may raise)
        sys.modules["__main__"] = main
        try:
            return dumps(value, PROTOCOL)
        except Exception:  # noqa: BLE001  (the first one tells more)
            raise error from error.__cause__
    finally:
        sys.modules["__main__"] = main


def _dump(value: Any) -> bytes:
    try:
        return dumps(value, PROTOCOL)
    except RecursionError:
        raise  # cloudpickle has another name for it
    except Exception:  # noqa: BLE001  (whatever a reducer may raise)
        cloudpickle = modules.import_ours("cloudpickle")
        modules.import_ours("types")
        from . import by_value  # few jobs need it

        blob = by_value.dumps(cloudpickle, value, PROTOCOL)
    if modules.foreign_version is not None and b"_make_function" in blob:
        foreign_code = modules.load_unpickler().foreign_code
        raise RuntimeError(foreign_code(modules.foreign_version, sys.version_info[:2]))
    return blob


def load_outcome(blob: bytes) -> Any:
    """Unpickle what a call has left, to see whether the client can."""
    if b"cloudpickle" not in blob:
        return loads(blob)
    return modules.load_unpickler().load_outcome(blob)


def add_note(error: BaseException, note: str) -> None:
    """Add a note, also to an exception whose class lets nobody set an attribute."""
    try:
        notes = [*getattr(error, "__notes__", ()), note]
        # Not `add_note`: the class may be a frozen dataclass.
        BaseException.__setattr__(error, "__notes__", notes)
    except Exception:  # noqa: BLE001, S110
        pass  # the exception is more than its note
