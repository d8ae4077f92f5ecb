"""What can be called, with what arguments, and what can come back."""

import collections
import datetime
import decimal
import functools
import operator
import os
import pickle
import re
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import pytest

from tests.contract import calls
from tests.contract.calls import Thing
from tests.contract.executors import PATIENCE, AnyFuture, MakeExecutor

_CALLABLES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "builtin": (len, ([1, 2],), 2),
    "function": (calls.identity, (5,), 5),
    "class": (collections.Counter, ("aab",), {"a": 2, "b": 1}),
    "exception class": (repr, (ValueError("x"),), "ValueError('x')"),
    "bound method": (Thing(7).method, (), 7),
    "method of a builtin": ("a,b".split, (",",), ["a", "b"]),
    "unbound method": (Thing.method, (Thing(7),), 7),
    "class method": (Thing.class_method, (), "Thing"),
    "static method": (Thing.static_method, (), "static"),
    "object that can be called": (Thing(7), (1,), 8),
    "partial": (functools.partial(calls.divide, denominator=2), (9,), 4),
    "partial of a partial": (functools.partial(functools.partial(pow, 2), 3), (5,), 3),
    "itemgetter": (operator.itemgetter(1), ("ab",), "b"),
    "compiled pattern": (re.compile("b+").findall, ("abbcb",), ["bb", "b"]),
}


@pytest.fixture(scope="module")
def results_of_callables(executor: Executor) -> dict[str, AnyFuture]:
    """Submit one call of each kind."""
    return {
        name: executor.submit(function, *arguments)
        for name, (function, arguments, _) in _CALLABLES.items()
    }


@pytest.mark.parametrize("name", _CALLABLES)
def test_callable_of_every_kind_can_be_submitted(
    results_of_callables: dict[str, AnyFuture], name: str
) -> None:
    """Functions, methods, classes and objects, of Python or of C."""
    assert results_of_callables[name].result(PATIENCE) == _CALLABLES[name][2]


@pytest.mark.parametrize("wrong", ["text", 5, None, ("serve_pool",)])
def test_what_cannot_be_called_is_a_type_error(executor: Executor, wrong: Any) -> None:
    """The error is that of the call, as Python words it."""
    future = executor.submit(wrong, "argument")

    with pytest.raises(TypeError, match=f"{type(wrong).__name__}.*not callable"):
        future.result(PATIENCE)


@pytest.mark.oracle_differs("pickle cannot send them; we send them by value")
def test_lambda_closure_and_local_class_can_be_submitted(
    make_executor: MakeExecutor,
) -> None:
    """What has no importable name travels by value, there and back."""
    base = 10

    def add_base(number: int) -> int:
        return number + base

    class Local:
        def __init__(self, number: int) -> None:
            self.number = add_base(number)

    executor = make_executor(2)
    of_lambda = executor.submit(lambda number: add_base(number) * 2, 1)
    of_class = executor.submit(Local, 2)
    of_maker = executor.submit(lambda: lambda number: number + base)

    assert of_lambda.result(PATIENCE) == 22
    instance = of_class.result(PATIENCE)
    assert isinstance(instance, Local)
    assert instance.number == 12
    assert of_maker.result(PATIENCE)(1) == 11


@pytest.mark.oracle_differs("pickle cannot send it; we send it by value")
def test_exception_of_a_local_class_can_be_caught(make_executor: MakeExecutor) -> None:
    """An exception class without an importable name is the same one here."""

    class LocalError(Exception):
        pass

    def fail() -> None:
        raise LocalError("local", 1)

    executor = make_executor(1)
    with pytest.raises(LocalError) as caught:
        executor.submit(fail).result(PATIENCE)
    assert caught.value.args == ("local", 1)


_VALUES: dict[str, Any] = {
    "nothing": None,
    "large integer": 10**1000,
    "text": "ä€😀\x00\n",
    "lone surrogate": "\udc80",
    "bytes": bytes(range(256)),
    "not a number": float("inf"),
    "containers": {"a": [(1, 2), {3}, frozenset({4})], "b": {5: None}},
    "date": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "decimal": decimal.Decimal("0.1"),
    "class": Thing,
    "function": calls.identity,
    "empty": ((), [], {}, "", b""),
    "exception as a value": ("value", ValueError),
}


@pytest.fixture(scope="module")
def echoes(executor: Executor) -> dict[str, AnyFuture]:
    """Submit calls that return each of the values."""
    return {
        name: executor.submit(calls.identity, value) for name, value in _VALUES.items()
    }


@pytest.mark.parametrize("name", _VALUES)
def test_values_survive_the_journey(echoes: dict[str, AnyFuture], name: str) -> None:
    """Arguments and results are equal at both ends."""
    result = echoes[name].result(PATIENCE)

    assert result == _VALUES[name]
    assert type(result) is type(_VALUES[name])


def test_exception_as_a_value_is_not_raised(executor: Executor) -> None:
    """A call may return an exception, or a failed call's future's exception."""
    result = executor.submit(calls.identity, ValueError("value")).result(PATIENCE)

    assert repr(result) == "ValueError('value')"


def test_references_within_arguments_are_kept(executor: Executor) -> None:
    """An object that is there twice, or within itself, still is."""
    shared: list[Any] = []
    circle: list[Any] = [shared, shared]
    circle.append(circle)

    first, second, itself = executor.submit(calls.identity, circle).result(PATIENCE)
    assert first is second
    assert itself[2] is itself


def test_value_is_loaded_where_it_is_wanted(executor: Executor) -> None:
    """What its reduction names need not be in the process of the call."""
    future = executor.submit(calls.return_loads_only_in, os.getpid())

    assert future.result(PATIENCE).pid == os.getpid()


def test_own_reduction_is_used_in_both_directions(executor: Executor) -> None:
    """`__reduce__` of arguments and results decides how they travel."""
    result = executor.submit(calls.identity, calls.Reduced(1)).result(PATIENCE)

    # Ours is loaded once more in the job to see whether it can be.
    assert isinstance(result, calls.Reduced)
    assert result.value == 4


def test_deep_structures_travel_or_fail_with_an_error(executor: Executor) -> None:
    """100 levels pass; what is too deep for pickle is an exception of its call."""
    nested = calls.return_deep_list(100)
    bottomless = calls.return_deep_list(100_000)
    errors = (RecursionError, pickle.PicklingError, MemoryError)

    fine = executor.submit(calls.identity, nested)
    too_deep = executor.submit(calls.ignore, bottomless)
    too_deep_result = executor.submit(calls.return_deep_list, 100_000)
    assert fine.result(PATIENCE) == nested
    assert isinstance(too_deep.exception(PATIENCE), errors)
    assert isinstance(too_deep_result.exception(PATIENCE), errors)


def test_generators_are_iterables_but_no_arguments(executor: Executor) -> None:
    """`map` reads a generator; a generator as an argument cannot be pickled."""
    assert list(executor.map(abs, (-number for number in range(3)))) == [0, 1, 2]
    with pytest.raises(TypeError, match="generator"):
        executor.submit(list, (number for number in range(3))).result(PATIENCE)


def test_large_arrays_travel_unchanged(executor: Executor) -> None:
    """100 MB go there and come back."""
    numpy = pytest.importorskip("numpy", reason="needs NumPy: pip install numpy")
    array = numpy.arange(100_000_000 // 8, dtype=numpy.float64)

    result = executor.submit(calls.identity, array).result(PATIENCE)
    assert result.dtype == array.dtype
    assert numpy.array_equal(result, array)
