"""Which values are equal as arguments of calls, and which are not."""

from __future__ import annotations

import collections
import copy
import datetime
import decimal
import enum
import fractions
import functools
import io
import logging
import operator
import pathlib
import pickle
import random
import re
import sys
import threading
import types
import typing
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from slurm_futures.calls.equality import CallDigests, digest_function

_T = typing.TypeVar("_T")


def use(*args: object, **kwargs: object) -> None:
    """Stand for any function."""


def digest(*args: object, **kwargs: object) -> bytes | None:
    """Return the digest of a call with such arguments."""
    return CallDigests(use).of(args, kwargs)


class Plain:
    """A class with attributes."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    """A class without a `__dict__`."""

    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


@dataclass
class Data:
    """A class of data."""

    a: int
    b: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    """One that cannot be changed."""

    a: int


class Color(enum.Enum):
    """Members without an order."""

    RED = 1
    GREEN = 2


class Access(enum.Flag):
    """Members that can be combined."""

    READ = 1
    WRITE = 2


class Point(typing.NamedTuple):
    """A tuple with names."""

    x: int
    y: int


class Names(set[str]):
    """A set of a class of the program."""


class Failure(Exception):
    """An exception of the program."""


def _bag(**attributes: Any) -> Names:
    bag = Names(["a", "b"])
    vars(bag).update(attributes)
    return bag


def _looped(*values: Any) -> list[Any]:
    made: list[Any] = list(values)
    made.append(made)
    return made


def _nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def _table(dtype: Any = float) -> Any:
    return np.arange(6, dtype=dtype).reshape(2, 3)


SHARED = [1, 2]

#: Each value is made twice, and both are one call.
EQUAL: dict[str, Callable[[], Any]] = {
    "text that is not interned": lambda: str(b"ab cd", "ascii"),
    "large number": lambda: 7**9000,
    "negative number": lambda: -(2**70),
    "NaN": lambda: float("nan"),
    "surrogates": lambda: "\udc80",
    "long bytes": lambda: bytes(10_000),
    "set": lambda: {"a", 1, None, (2, "b")},
    "set of sets": lambda: {frozenset({"a", "b"}), frozenset({"c"})},
    "set of a class": _bag,
    "dict": lambda: {"a": [1, {"b": (2,)}]},
    "range": lambda: range(3, 9, 2),
    "slice": lambda: slice(1, None, 2),
    "date": lambda: datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),  # noqa: UP017
    "decimal": lambda: decimal.Decimal("1.50"),
    "fraction": lambda: fractions.Fraction(1, 3),
    "path": lambda: pathlib.Path("/a/b"),
    "uuid": lambda: uuid.UUID(int=5),
    "deque": lambda: collections.deque([1, 2], maxlen=3),
    "ordered": lambda: collections.OrderedDict(a=1, b=2),
    "default": lambda: collections.defaultdict(list, a=[1]),
    "counter": lambda: collections.Counter("abca"),
    "proxy": lambda: types.MappingProxyType({"a": 1}),
    "namespace": lambda: types.SimpleNamespace(a=1),
    "partial": lambda: functools.partial(use, 1, b=2),
    "getter": lambda: operator.itemgetter(1, 2),
    "module": lambda: re,
    "type": lambda: int,
    "type of None": lambda: type(None),
    "generic": lambda: list[int],
    "union": lambda: int | None,
    "of typing": lambda: typing.Union[list[typing.Any], typing.Literal["a"]],  # noqa: UP007
    "ellipsis": lambda: (..., NotImplemented),
    "exception": lambda: ValueError("a", 1),
    "own exception": lambda: Failure("a"),
    "pattern": lambda: re.compile("a+", re.IGNORECASE),
    "match": lambda: re.match("a+", "aab"),
    "random": lambda: random.Random(5),  # noqa: S311
    "logger": lambda: logging.getLogger("a"),
    "built-in function": lambda: (len, [].append, "a".join, str.upper, object()),
    "memory": lambda: memoryview(b"abc"),
    "buffer": lambda: io.BytesIO(b"abc"),
    "iterator": lambda: iter([1, 2]),
    "instance": lambda: Plain([1]),
    "slots": lambda: Slotted(1, [2]),
    "data": lambda: Data(1, [2]),
    "frozen data": lambda: Frozen(1),
    "named tuple": lambda: Point(1, 2),
    "members": lambda: [Color.RED, Access.READ, Access.READ | Access.WRITE],
    "class": lambda: Plain,
    "method": lambda: Plain(1).__init__,  # type: ignore[misc]
    "function": lambda: use,
    "lambda": lambda: lambda each: each + len(SHARED),
    "array": lambda: np.arange(6.0),
    "array of texts": lambda: np.array(["a", "bc"]),
    "array of objects": lambda: np.array([{"a": 1}, None], dtype=object),
    "array of dates": lambda: np.array(["2026-01-01"], dtype="datetime64[s]"),
    "structured array": lambda: np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
    "empty array": lambda: np.zeros((0, 3)),
    "array without dimensions": lambda: np.array(5),
    "scalar": lambda: (np.float64(1.5), np.int8(1), np.datetime64("2026-01-01")),
    "masked array": lambda: np.ma.masked_array([1, 2], [True, False]),
    "type of an array": lambda: np.dtype([("a", "i4")]),
    "function of NumPy": lambda: (np.sin, np.sum, np.linalg.norm, np.array),
    "generator of NumPy": lambda: np.random.default_rng(5),
    "list that contains itself": lambda: _looped(1, [2]),
    "deep list": lambda: _nested(90),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_values_have_one_digest(name: str) -> None:
    """Also if one is a copy, or both are in one call."""
    make = EQUAL[name]
    first = make()

    assert digest(first) is not None
    assert digest(first) == digest(make())
    assert digest(first, [make()]) == digest(make(), [first])
    assert digest(a=first) == digest(a=make()) != digest(first)


#: Pickle alone cannot copy these, or makes something else of them.
NO_COPIES = {
    "match",
    "masked array",
    "module",
    "iterator",
    "memory",
    "proxy",
    "lambda",
    "of typing",
    "method",
}


@pytest.mark.parametrize("name", [each for each in EQUAL if each not in NO_COPIES])
def test_copy_of_a_value_has_its_digest(name: str) -> None:
    """A pickle keeps all that counts."""
    value = EQUAL[name]()

    assert digest(pickle.loads(pickle.dumps(value))) == digest(value)


def _twice(value: object) -> list[object]:
    return [value, value]


#: Of different values no two are equal.
DIFFERENT: dict[str, list[Any]] = {
    "one": [1, 1.0, True, "1", b"1", 1 + 0j, np.int64(1), np.float64(1), np.True_],
    "zero": [0.0, -0.0, 0, False, None, 0j, -0j, complex(0, -0.0)],
    "NaN": [float("nan"), float("inf"), -float("inf"), None],
    "bytes": [b"ab", bytearray(b"ab"), "ab"],
    "empty": [(), [], {}, set(), frozenset(), "", b"", None, range(0), np.zeros(0)],
    "nesting": [[1, [2]], [[1], 2], [1, 2], [[1, 2]], (1, [2]), [1, [2], []]],
    "texts": [["ab", "c"], ["a", "bc"], ["abc"], ["a", "b", "c"]],
    "order of a dict": [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 1}],
    "kinds of dicts": [
        *({"a": 1}, collections.OrderedDict(a=1), collections.Counter(a=1)),
        *(types.MappingProxyType({"a": 1}), collections.defaultdict(int, a=1)),
        *(collections.defaultdict(None, a=1), [("a", 1)], [["a", 1]]),
    ],
    "sets": [{1, 2}, {1, 3}, frozenset({1, 2}), [1, 2], {1}, _bag(), _bag(x=1)],
    "pairs": [Point(1, 2), (1, 2), Slotted(1, 2), Point(2, 1), Slotted(2, 1)],
    "instances": [Plain(1), Plain(2), Plain(1.0), Data(1), Frozen(1), Data(1, [1])],
    "members": [Color.RED, Color.GREEN, 1, Access.READ, Access.READ | Access.WRITE],
    "paths": [pathlib.Path("a"), pathlib.PurePosixPath("a"), "a", pathlib.Path("b")],
    "decimals": [decimal.Decimal("1.5"), decimal.Decimal("1.50"), 1.5],
    "deques": [collections.deque([1]), collections.deque([1], 5), [1]],
    "ranges": [range(3), range(4), range(0, 3, 2), [0, 1, 2], slice(3), slice(0, 3)],
    "partials": [
        *(functools.partial(use, 1), functools.partial(use, 2)),
        *(functools.partial(use), functools.partial(use, a=1), use),
    ],
    "methods": [Plain(1).__init__, Plain(2).__init__],  # type: ignore[misc]
    "types": [int, float, list, list[int], list[str], type(None), Plain, Data, "int"],
    "modules": [re, random, "re"],
    "exceptions": [ValueError("a"), ValueError("b"), TypeError("a"), Failure("a")],
    "lambdas": [lambda: 1, lambda: 2, lambda: 1.0, lambda a: a, lambda a=1: a],
    "random": [*map(random.Random, (1, 2)), *map(np.random.default_rng, (1, 2))],
    "arrays": [
        *(_table(), _table().T, _table().reshape(3, 2), _table("f4")),
        *(np.asfortranarray(_table()), _table(">f8"), _table().ravel()),
        *(_table().tolist(), _table(object), _table(int), -_table()),
        *(np.rec.array(_table()), np.ma.masked_array(_table())),
    ],
    "dates": [np.datetime64(1, "s"), np.datetime64(1, "D"), np.timedelta64(1, "s")],
    "loops": [_looped(1), _looped(2), _looped(), [_looped(1)], [1, _looped(1)]],
    "loops elsewhere": [_looped([1], [1]), _looped(*_twice([1]))],
    "type variables": [_T, typing.TypeVar("_S"), typing.TypeVar("_T", bound=int)],
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_values_have_different_digests(name: str) -> None:
    """Alone and within others."""
    values = DIFFERENT[name]

    for wrap in (lambda each: each, lambda each: [each], lambda each: {"a": (each,)}):
        digests = [digest(wrap(each)) for each in values]
        assert None not in digests
        assert len(set(digests)) == len(values)


def test_place_of_an_argument_counts() -> None:
    """So does the order of those with names, which a function may see."""
    digests = [
        *(digest(1, 2), digest((1, 2)), digest([1, 2]), digest(1, b=2), digest(2, 1)),
        *(digest(), digest({"a": 1}), digest(a=1), digest(a=1, b=2), digest(b=2, a=1)),
    ]

    assert len(set(digests)) == len(digests)


def test_array_is_what_a_copy_of_it_would_be() -> None:
    """A view as well; the order of its axes in memory is kept by pickle."""
    whole = np.arange(20.0).reshape(4, 5)

    assert digest(whole[::2, 1:3]) == digest(whole[::2, 1:3].copy())
    assert digest(whole.T) == digest(whole.T.copy("F")) != digest(whole.T.copy())
    assert digest(whole[0]) == digest(np.asfortranarray(whole[0].copy()))
    assert digest(np.broadcast_to(1.0, (2, 3))) == digest(np.ones((2, 3)))


def test_what_is_there_twice_counts_like_a_copy() -> None:
    """A call cannot tell, unless it changes its arguments."""
    item = ["a" * 100]

    assert digest(item, item) == digest(item, copy.copy(item))
    assert digest([item] * 3) == digest([["a" * 100] for _ in range(3)])


def test_value_that_is_shared_very_often() -> None:
    """It is looked at once: written down in full it would not fit into memory."""
    value: list[Any] = ["a"]
    for _ in range(60):
        value = [value, value]

    assert digest(value) is not None


def _rows() -> Iterator[int]:
    yield 1


class Restless:
    """An object whose pickle differs each time."""

    def __reduce__(self) -> Any:
        return Restless, (), {"a": uuid.uuid4().hex}


class Broken:
    """An object that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise LookupError


def _set_in_itself() -> Any:
    item = Plain(None)
    item.value = {item}
    return item


UNSEEN: dict[str, Callable[[], Any]] = {
    "_thread.lock": threading.Lock,
    "_io.TextIOWrapper": lambda: io.TextIOWrapper(io.BytesIO()),
    "_io.FileIO": lambda: io.FileIO(0, closefd=False),
    "generator": _rows,
    "weakref.ReferenceType": lambda: weakref.ref(Plain),
    f"{__name__}.Restless": Restless,
    f"{__name__}.Broken": Broken,
    "frame": sys._getframe,
    "module __main__": lambda: sys.modules["__main__"],
}


@pytest.mark.parametrize("kind", UNSEEN)
def test_where_nothing_can_be_seen_there_is_no_digest(kind: str) -> None:
    """The type is noted, of what is to blame."""
    calls = CallDigests(use)
    value = UNSEEN[kind]()

    assert calls.of((value,), {}) is None
    assert calls.of((), {"a": [Plain({"b": value})]}) is None
    assert calls.of((1,), {}) is not None
    assert calls.causes == {kind: 2}


@pytest.mark.parametrize("depth", [150, 100_000])
def test_value_that_is_nested_too_deep(depth: int) -> None:
    """No pickle of it can be made either, and no limit of Python is met."""
    calls = CallDigests(use)

    assert calls.of((_nested(depth),), {}) is None
    assert calls.causes == {"tuple (nested too deep)": 1}


class Compiled:
    """Like a function that Numba has compiled."""

    def __init__(self, function: Callable[[], int]) -> None:
        self.function = function

    def _reduce_states(self) -> dict[str, Any]:
        return {"uuid": uuid.uuid4().hex, "py_func": self.function}


class Tensor:
    """Like those of PyTorch."""

    def data_ptr(self) -> int:
        """Return an address."""
        return id(self)


def test_random_names_and_addresses_in_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that are known for them."""
    monkeypatch.setattr(Compiled, "__module__", "numba.core")
    monkeypatch.setattr(Tensor, "__module__", "torch")

    assert digest(Compiled(lambda: 1)) == digest(Compiled(lambda: 1)) is not None
    assert digest(Compiled(lambda: 1)) != digest(Compiled(lambda: 2))
    assert digest(Tensor()) is None


class Number(int):
    """A number of the program, and more of the like."""


class Text(str):
    """A text."""

    __slots__ = ()


class Items(list[int]):
    """A list."""


class Row(tuple[int, ...]):
    """A tuple."""

    __slots__ = ()


class Mapping(dict[str, int]):
    """A dict."""


class Bits(bytes):
    """Bytes."""


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (Number, [1, 2]),
        (Text, ["a", "b"]),
        (Items, [[1], [2], [1, 2]]),
        (Row, [(1,), (2,)]),
        (Mapping, [{"a": 1}, {"a": 2}, {"b": 1}]),
        (Bits, [b"a", b"b"]),
    ],
)
def test_what_derives_from_built_in_types(make: Any, values: list[Any]) -> None:
    """Contents and attributes count."""
    made = [*map(make, values), *values]
    if hasattr(made[0], "__dict__"):
        made.append(make(values[0]))
        made[-1].more = 1

    assert len({digest(each) for each in made}) == len(made)
    assert digest(make(values[0])) == digest(make(values[0])) is not None


def test_set_that_is_part_of_its_items() -> None:
    """Their order would depend on itself."""
    assert digest(_set_in_itself()) is None


def test_function_that_cannot_be_seen_is_the_cause_for_all_its_calls() -> None:
    """No call is equal to another one."""
    lines = _rows()

    def read() -> object:
        return lines

    calls = CallDigests(read)

    assert (calls.of((1,), {}), calls.of((2,), {})) == (None, None)
    assert calls.causes == {"generator": 2}
    assert calls.function.digest is None
    assert calls.function.name == f"{__name__}.{read.__qualname__}"


def test_names_of_functions() -> None:
    """They stay when the code changes; a partial has that of its function."""
    names = [
        digest_function(each).name
        for each in (
            *(use, functools.partial(functools.partial(use), 1), Plain(1).__init__),  # type: ignore[misc]
            *(len, Plain, operator.itemgetter(1)),
        )
    ]

    own = [f"{__name__}.{each}" for each in ("use", "use", "Plain.__init__", "Plain")]
    assert names == [*own[:3], "builtins.len", own[3], "operator.itemgetter"]


# Values by chance.


def _value(rng: random.Random, depth: int) -> Any:
    """Make a value by chance."""
    atoms: list[Callable[[], Any]] = [
        *(
            lambda: rng.randrange(-3, 3),
            rng.random,
            lambda: rng.getrandbits(99),
        ),
        *(lambda: "".join(rng.choices("ab", k=rng.randrange(90))), lambda: None),
        *(lambda: rng.randbytes(3), lambda: rng.choice([True, False, ..., 1j])),
    ]
    nested: list[Callable[[], Any]] = [
        lambda: [_value(rng, depth - 1) for _ in range(rng.randrange(4))],
        lambda: tuple(_value(rng, depth - 1) for _ in range(rng.randrange(4))),
        lambda: {rng.choice("abcd"): _value(rng, depth - 1) for _ in range(3)},
        lambda: {str(rng.random()) for _ in range(rng.randrange(9))},
        lambda: Plain(_value(rng, depth - 1)),
        lambda: Slotted(_value(rng, depth - 1), _value(rng, depth - 1)),
        lambda: np.array([rng.random() for _ in range(3)]),
        lambda: collections.deque(_value(rng, depth - 1) for _ in range(2)),
    ]
    return rng.choice(nested if depth and rng.random() < 0.8 else atoms)()


def _mutate(value: Any, rng: random.Random) -> Any:
    """Change a value in one place."""
    if isinstance(value, list | tuple | collections.deque) and value:
        place = rng.randrange(len(value))
        items = list(value)
        items[place] = _mutate(items[place], rng)
        return type(value)(items)
    if isinstance(value, dict) and value:
        name = rng.choice(list(value))
        return {**value, name: _mutate(value[name], rng)}
    if isinstance(value, Plain):
        return Plain(_mutate(value.value, rng))
    if isinstance(value, Slotted):
        return Slotted(value.a, _mutate(value.b, rng))
    if isinstance(value, set):
        return {*value, "more"}
    if isinstance(value, np.ndarray):
        return np.append(value[:-1], 5.0)
    return [value] if value == "other" else "other"


@pytest.mark.parametrize("seed", range(200))
def test_copies_are_equal_and_what_was_changed_is_not(seed: int) -> None:
    """Whatever the value."""
    rng = random.Random(seed)  # noqa: S311
    value = _value(rng, 5)

    known = digest(value)

    assert known is not None
    assert known == digest(copy.deepcopy(value))
    assert known == digest(pickle.loads(pickle.dumps(value)))
    assert known != digest(_mutate(value, rng))
