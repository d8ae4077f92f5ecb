"""Large objects that calls share: stored once, and each call has its own copy."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slurm_futures.calls.call import PickledCall
from slurm_futures.calls.pickler import dump
from slurm_futures.calls.shared_objects import CallPickler, pickle_call
from slurm_futures.node import calls_file
from slurm_futures.runs.calls_file import write_calls
from tests.unit.fakes import CONTEXT

_LARGE = 2 << 20  #: bytes, enough to be shared
_FUNCTION = dump(max)


def pickle_one(*args: Any, **kwargs: Any) -> PickledCall:
    """Pickle a call of `submit`."""
    return CallPickler().pickle(_FUNCTION, args, kwargs)


class Stored:
    """Calls in a file, as a job loads them."""

    def __init__(self, path: Path, *calls: PickledCall) -> None:
        self.path = path / "calls.pkl"
        write_calls(self.path, [list(calls)], CONTEXT)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    def call(self) -> list[Any]:
        """What each call returns."""
        with contextlib.closing(calls_file.CallsFile(self.path)) as calls:
            values = []
            for entry in calls.entries(0):
                function = calls.load_function(entry)
                args, kwargs = calls.load_arguments(entry)
                values.append(function(*args, **kwargs))
            return values

    def load(self) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The arguments of each call."""
        with contextlib.closing(calls_file.CallsFile(self.path)) as calls:
            return [calls.load_arguments(entry) for entry in calls.entries(0)]


@pytest.mark.parametrize(
    "value",
    [
        bytes(_LARGE),
        bytearray(_LARGE),
        "x" * _LARGE,
        np.arange(_LARGE // 8),
        list(range(250_000)),
        {"table": np.arange(_LARGE // 8), "name": "x"},
    ],
    ids=["bytes", "bytearray", "str", "array", "list", "dict"],
)
def test_an_object_that_all_calls_get_is_stored_once(
    tmp_path: Path, value: Any
) -> None:
    """By `repeat`, in each item, or in a loop of `submit`."""
    one = Stored(_new(tmp_path / "one"), pickle_one(value, 0))
    repeated = itertools.repeat(value)
    pickler = CallPickler([repeated])
    mapped = [
        pickler.pickle(_FUNCTION, (next(repeated), number), {}) for number in range(5)
    ]
    looped = [pickle_one(value, number) for number in range(5)]
    many = Stored(_new(tmp_path / "many"), *mapped, *looped)

    assert many.size < one.size + 50_000
    for number, (args, kwargs) in enumerate(many.load()):
        assert (args[1], kwargs) == (number % 5, {})
    assert dump(many.load()[7][0][0]) == dump(value)


def _new(path: Path) -> Path:
    path.mkdir()
    return path


def test_small_arguments_travel_with_their_call() -> None:
    """No table, no second file read."""
    assert pickle_one(b"x" * 1000, name=[1]).shared == ()


def test_keywords_can_be_shared(tmp_path: Path) -> None:
    """As positional arguments are."""
    calls = [pickle_one(number, table=bytes(_LARGE)) for number in range(5)]
    stored = Stored(tmp_path, *calls)

    assert stored.size < _LARGE + 10_000
    args, kwargs = stored.load()[3]
    assert (args, len(kwargs["table"])) == ((3,), _LARGE)


def test_each_call_has_an_object_of_its_own(tmp_path: Path) -> None:
    """What one does to it the next one does not see."""
    array = np.zeros(_LARGE // 8)
    first, second = Stored(tmp_path, *[pickle_one(array)] * 2).load()

    first[0][0][:] = 5
    assert second[0][0].sum() == 0


def test_two_arguments_that_are_one_object_stay_one(tmp_path: Path) -> None:
    """Also where one of them is inside another object."""
    array = np.zeros(_LARGE // 8)
    ((first, inner), _) = Stored(tmp_path, pickle_one(array, [array])).load()[0]

    assert first is inner[0]


class _Series:
    """An array with labels, which are an object of their own."""

    def __init__(self, labels: list[int]) -> None:
        self.values = np.zeros(_LARGE // 8)
        self.dtype, self.nbytes = self.values.dtype, self.values.nbytes
        self.labels = labels


class _Named(bytes):
    """Bytes with a name, which is an object of its own."""

    labels: list[int]


def _holder_of(kind: str, inner: list[int]) -> Any:
    if kind == "objects":
        array = np.empty(200_000, dtype=object)
        array[0] = inner
        return array
    if kind == "records":
        array = np.zeros(100_000, dtype=[("number", int), ("object", object)])
        array["object"][0] = inner
        return array
    if kind == "series":
        return _Series(inner)
    named = _Named(_LARGE)
    named.labels = inner
    return named


def _inner_of(holder: Any) -> object:
    if isinstance(holder, np.ndarray):
        return holder[0] if holder.dtype == object else holder["object"][0]
    return holder.labels


@pytest.mark.parametrize("kind", ["objects", "records", "series", "named"])
def test_what_a_large_object_has_in_common_with_others_stays_one(
    tmp_path: Path, kind: str
) -> None:
    """An array of objects, say, and one of these."""
    inner = [1]

    call = pickle_one(_holder_of(kind, inner), inner)

    ((holder, other), _) = Stored(tmp_path, call).load()[0]
    assert _inner_of(holder) is other


def test_large_arrays_beside_other_objects_are_stored_once(tmp_path: Path) -> None:
    """Numbers refer to nothing, whatever class of NumPy holds them."""
    mapped = np.memmap(tmp_path / "numbers", np.float64, "w+", shape=_LARGE // 8)
    calls = [pickle_one(mapped, [number], np.arange(_LARGE)) for number in range(3)]

    assert all(len(call.arguments) < 10_000 for call in calls)
    assert len({blob for call in calls for blob in call.shared}) == 2


def test_an_object_that_changes_between_items_is_taken_anew(tmp_path: Path) -> None:
    """A generator may fill the same array again and again."""
    pickler, array, calls = CallPickler(), np.zeros(_LARGE // 8), []
    for number in range(3):
        array[:] = number
        calls.append(pickler.pickle(_FUNCTION, (array,), {}))

    values = [args[0][-1] for args, _ in Stored(tmp_path, *calls).load()]
    assert values == [0, 1, 2]


def test_what_is_repeated_is_pickled_once() -> None:
    """Its reducer runs for the first item only."""
    counted = _Counted()
    repeated = itertools.repeat(counted)
    pickler = CallPickler([repeated, range(5)])

    for number in range(5):
        pickler.pickle(_FUNCTION, (next(repeated), number), {})
    assert _Counted.pickled <= 3, "for the first item alone"


@pytest.mark.parametrize("kind", [list, tuple])
def test_the_same_object_in_a_list_is_pickled_once(kind: Any) -> None:
    """No line of the program runs while a list is read."""
    _Counted.pickled = 0
    items = kind([_Counted()] * 5)
    pickler = CallPickler([items, range(5), np.arange(5)])

    for number, each in enumerate(items):
        pickler.pickle(_FUNCTION, (each, number), {})
    assert _Counted.pickled <= 3, "for the first item alone"


def test_the_same_object_in_a_list_may_change_beside_a_generator(
    tmp_path: Path,
) -> None:
    """Its lines run between the items."""
    array = np.zeros(_LARGE // 8)

    def fill() -> Iterator[int]:
        for number in range(3):
            array[:] = number
            yield number

    iterables = [array] * 3, fill()
    pickler = CallPickler(iterables)
    calls = [
        pickler.pickle(_FUNCTION, args, {}) for args in zip(*iterables, strict=False)
    ]

    values = [args[0][-1] for args, _ in Stored(tmp_path, *calls).load()]
    assert values == [0, 1, 2]


def _state_of(kind: str) -> Any:
    """Something large whose first item can be set."""
    if kind == "array":
        return np.zeros(_LARGE // 8)
    return [0] * (_LARGE // 2)


@pytest.mark.parametrize("kind", ["array", "list"])
def test_an_object_that_changes_between_submits_is_taken_anew(
    tmp_path: Path, kind: str
) -> None:
    """As an argument, and as a variable of the function."""
    state, calls = _state_of(kind), []
    for number in [0, 1, 1, 2]:
        state[0] = number
        calls.append(pickle_call(lambda: state[0], (), {}))
        calls.append(pickle_call(lambda given: given[0], (state,), {}))

    stored = Stored(tmp_path, *calls)
    assert stored.call() == [0, 0, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("kind", ["array", "list"])
@pytest.mark.parametrize("args", [(1,), ([1],)], ids=["number", "list"])
def test_what_a_function_uses_is_stored_once(
    tmp_path: Path, kind: str, args: Any
) -> None:
    """Where the function is the same for a loop of `submit`, and in memory as well."""
    state = _state_of(kind)

    def use(first: Any) -> Any:
        return first, state[-1]

    calls = [pickle_call(use, args, {}) for _ in range(5)]

    stored = Stored(tmp_path, *calls)
    assert stored.call() == [(*args, 0)] * 5
    assert len({blob for call in calls for blob in call.shared}) == 1
    assert stored.size < _state_size(kind) + 50_000


def _state_size(kind: str) -> int:
    return len(dump(_state_of(kind)))


def test_what_functions_made_in_a_loop_use_is_stored_once(tmp_path: Path) -> None:
    """Each of them is another one."""
    array = np.arange(_LARGE // 8)
    made = [lambda number=number: array[number] for number in range(3)]
    parts = [functools.partial(np.take, array, number) for number in range(3)]
    stored = Stored(tmp_path, *[pickle_call(each, (), {}) for each in made + parts])

    assert stored.call() == [0, 1, 2, 0, 1, 2]
    assert stored.size < _LARGE + 50_000


def test_a_large_function_and_its_arguments_share_global_variables(
    tmp_path: Path,
) -> None:
    """As those of a small one do."""
    names: dict[str, Any] = {"__name__": "__main__", "table": [0] * (_LARGE // 2)}
    exec(  # noqa: S102  (a script)
        "def set_first(value):\n    table[0] = value\n"
        "def apply(function):\n    function(7)\n    return table[0]\n",
        names,
    )
    call = pickle_call(names["apply"], (names["set_first"],), {})

    assert Stored(tmp_path, call).call() == [7]


class _Counted:
    """An object that is large when it is pickled."""

    pickled = 0

    def __reduce__(self) -> Any:
        _Counted.pickled += 1
        return tuple, (list(range(400_000)),)


class _Rows:
    """An object that makes its large parts while it is pickled, one after another."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []

    def append(self, row: bytes) -> None:
        """Take a part; pickle's own protocol for lists."""
        self.rows.append(row)

    def extend(self, rows: list[bytes]) -> None:
        """Take several parts."""
        self.rows.extend(rows)

    def _make(self) -> Iterator[bytes]:
        for number in range(6):
            yield bytes([number]) * _LARGE

    def __reduce__(self) -> Any:
        return _Rows, (), None, self._make()


def test_parts_that_live_only_while_they_are_pickled(tmp_path: Path) -> None:
    """A part may lie where an earlier one has been; it is not taken for that one."""
    call = pickle_one(_Rows(), [_Rows()])

    (args, _) = Stored(tmp_path, call).load()[0]

    assert [row[0] for row in args[0].rows] == list(range(6))


def test_objects_without_a_size_are_let_be(tmp_path: Path) -> None:
    """An attribute that raises when it is asked for is none of our business."""
    calls = [pickle_one(_Shy(), bytes(_LARGE))]

    (args, _) = Stored(tmp_path, *calls).load()[0]
    assert isinstance(args[0], _Shy)


class _Shy:
    """An object like a lazy proxy that is not connected."""

    def __getattr__(self, name: str) -> Any:
        if name == "nbytes":
            raise ConnectionError("not connected")
        raise AttributeError(name)


def test_errors_of_pickling_are_those_of_the_object() -> None:
    """Beside a large object as well as without one."""
    with pytest.raises(TypeError, match="generator"):
        pickle_one(bytes(_LARGE), (number for number in range(3)))


def test_functions_travel_by_value_beside_a_large_object(tmp_path: Path) -> None:
    """A lambda among the arguments, with a large array in its closure."""
    array = np.arange(_LARGE // 8)
    call = pickle_one(bytes(_LARGE), lambda: array[-1])

    (args, _) = Stored(tmp_path, call).load()[0]
    assert args[1]() == array[-1]
    assert len(call.shared) == 2
