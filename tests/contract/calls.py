"""Functions and classes that the contract tests send to jobs.

This module imports little, since each job that unpickles a function of it pays for
its imports.
"""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn


def capture(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments."""
    return args, kwargs


def ignore(*args: object) -> None:
    """Take anything and return nothing."""


def identity(value: Any) -> Any:
    """Return the argument."""
    return value


def divide(numerator: int, denominator: int) -> int:
    """Divide integers, which fails for zero."""
    return numerator // denominator


def add(numbers: list[Any]) -> Any:
    """Return the sum."""
    return sum(numbers)


def append(items: list[int], item: int) -> list[int]:
    """Change the list that was given, and return it."""
    items.append(item)
    return items


def touch(path: Path) -> None:
    """Create a file that tells that this call ran."""
    path.touch()


def pid_of_call(_: object = None) -> int:
    """Return the id of the process that runs the call."""
    return os.getpid()


def raise_error(error: BaseException) -> NoReturn:
    """Raise the given exception."""
    raise error


def raise_from_cause() -> NoReturn:
    """Raise an exception that has both a cause and a context."""
    try:
        try:
            raise OSError("the disk")
        except OSError:
            raise KeyError("the name")  # noqa: B904  (the context is what we test)
    except KeyError as error:
        raise ValueError("the whole") from error


def raise_with_notes() -> NoReturn:
    """Raise an exception with two notes."""
    error = ValueError("noted")
    error.add_note("first note")
    error.add_note("second note")
    raise error


def raise_group() -> NoReturn:
    """Raise a nested exception group."""
    inner = ExceptionGroup("inner", [TypeError("b"), KeyError("c")])
    raise ExceptionGroup("outer", [ValueError("a"), inner])


def recurse(depth: int = 0) -> int:
    """Recurse without end."""
    return recurse(depth + 1)


def return_lock(_: object = None) -> Any:
    """Return what cannot be pickled."""
    return threading.Lock()


def return_deep_list(depth: int) -> list[Any]:
    """Return a list in a list in a list."""
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def divide_or_die(number: int) -> float:
    """Return a quotient, but for zero end the process."""
    if number == 0:
        os._exit(3)
    return 12 / number


def kill_own_process(signal_number: int) -> None:
    """End the process of this call by a signal."""
    os.kill(os.getpid(), signal_number)


def leave_process(exit_code: int) -> None:
    """End the process of this call without any clean-up."""
    os._exit(exit_code)


class Stop(BaseException):
    """An exception that `except Exception` does not catch."""


class TwoArguments(Exception):
    """An exception that pickle cannot rebuild: it calls `cls(*args)`, with one."""

    def __init__(self, code: int, text: str) -> None:
        """Keep the parts and hand over one sentence."""
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class OnlyKeywords(Exception):
    """An exception whose constructor takes keywords alone."""

    def __init__(self, *, code: int) -> None:
        """Keep the code; there is no message."""
        super().__init__()
        self.code = code


class HoldsLock(Exception):
    """An exception that cannot be pickled."""

    def __init__(self) -> None:
        """Take a lock along."""
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class FailsToPickle:
    """An object whose pickling raises."""

    def __reduce__(self) -> Any:
        """Raise."""
        raise ArithmeticError("cannot be pickled")


class FailsToLoad:
    """An object whose unpickling raises."""

    def __reduce__(self) -> Any:
        """Raise at the other end."""
        return raise_error, (ArithmeticError("cannot be loaded"),)


class ExitsWhenPickled:
    """An object whose pickling ends the program."""

    def __reduce__(self) -> Any:
        """Exit."""
        sys.exit(7)


def raise_two_arguments() -> NoReturn:
    """Raise an exception with two constructor arguments."""
    raise TwoArguments(404, "not found")


def raise_only_keywords() -> NoReturn:
    """Raise an exception with a keyword-only constructor."""
    raise OnlyKeywords(code=404)


def raise_holding_lock() -> NoReturn:
    """Raise an exception that cannot be pickled."""
    raise HoldsLock


def return_fails_to_pickle() -> FailsToPickle:
    """Return an object whose pickling raises."""
    return FailsToPickle()


def return_fails_to_load() -> FailsToLoad:
    """Return an object whose unpickling raises."""
    return FailsToLoad()


def return_exits_when_pickled() -> ExitsWhenPickled:
    """Return an object whose pickling ends the program."""
    return ExitsWhenPickled()


class FailsToLoadIn:
    """An object that can be loaded in all processes but one."""

    def __init__(self, pid: int, error: BaseException) -> None:
        """Keep the id of that process, and what to raise there."""
        self.pid = pid
        self.error = error

    def __reduce__(self) -> Any:
        """Decide at the other end."""
        return _load_elsewhere, (self.pid, self.error)


def _load_elsewhere(pid: int, error: BaseException) -> FailsToLoadIn:
    if os.getpid() == pid:
        raise error
    return FailsToLoadIn(pid, error)


class Thing:
    """An ordinary object that weak references can point to."""

    def __init__(self, number: int = 0) -> None:
        """Keep a number to tell one from another."""
        self.number = number

    def method(self) -> int:
        """Return the number."""
        return self.number

    def __call__(self, other: int) -> int:
        """Add to the number."""
        return self.number + other

    @classmethod
    def class_method(cls) -> str:
        """Return the name of the class."""
        return cls.__name__

    @staticmethod
    def static_method() -> str:
        """Return a word."""
        return "static"


class Reduced:
    """An object with a reduction of its own, which doubles what it holds."""

    def __init__(self, value: int) -> None:
        """Keep the value."""
        self.value = value

    def __reduce__(self) -> Any:
        """Rebuild from twice the value, so that each journey shows."""
        return Reduced, (self.value * 2,)


class LoadsOnlyIn:
    """An object that can be loaded in one process only: what it names is there."""

    def __init__(self, pid: int) -> None:
        """Keep the id of that process."""
        self.pid = pid

    def __reduce__(self) -> Any:
        """Decide at the other end."""
        return _load_there, (self.pid,)


def _load_there(pid: int) -> LoadsOnlyIn:
    if os.getpid() != pid:
        raise LookupError("not here")
    return LoadsOnlyIn(pid)


def return_loads_only_in(pid: int) -> LoadsOnlyIn:
    """Return an object that only the process of this id can load."""
    return LoadsOnlyIn(pid)


def return_fails_to_load_in(pid: int, error: BaseException) -> FailsToLoadIn:
    """Return an object that the process of this id cannot load."""
    return FailsToLoadIn(pid, error)


def make_thing(number: int) -> Thing:
    """Return a new object."""
    return Thing(number)


def raise_thing() -> NoReturn:
    """Raise an exception that holds an ordinary object."""
    raise ValueError(Thing())


def count_up() -> Iterator[int]:
    """Yield numbers without end."""
    number = 0
    while True:
        yield number
        number += 1


def outcomes_file_of_this_job() -> Any:
    """Return the class of the worker that writes what the calls of this job leave."""
    frame: Any = sys._getframe()
    while "OutcomesFile" not in frame.f_globals:
        frame = frame.f_back
    return frame.f_globals["OutcomesFile"]
