"""Which changes of a script make other calls of its functions, and which do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls.equality import CallDigests, digest_function

SCRIPT = '''
"""What the script is for."""
import abc, collections, dataclasses, enum, functools, math, operator, threading, typing

SCALE = 3
TABLE = {"a": [1, 2]}
UNUSED = 1
LOCK = threading.Lock()

class Base:
    offset = 10
    def shift(self, x):
        return x + self.offset

class Model(Base):
    """A model."""
    __slots__ = ("rate",)
    registry = {}
    def __init__(self, rate=0.5):
        self.rate = rate
    def __call__(self, x):
        return self.shift(x) * self.rate
    @property
    def double(self):
        return 2 * self.rate
    @staticmethod
    def half(x):
        return x / 2
    @classmethod
    def make(cls):
        return cls(TABLE["a"][0])
Model.registry["self"] = Model

class Kind(enum.Enum):
    ONE = 1
    TWO = 2
    def size(self):
        return self.value * 10

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

class Square(Shape):
    def area(self):
        return 4

@dataclasses.dataclass(order=True)
class Config:
    depth: int = 3
    names: list = dataclasses.field(default_factory=list)
    marker: object = object()

class Pair(typing.NamedTuple):
    x: int = 1

def count(function):
    @functools.wraps(function)
    def counted(*args):
        return function(*args) + 100
    return counted

def helper(x):
    return x * SCALE

def through_comprehension(x):
    return [helper(y) for y in range(x)]

def nested(x):
    def inner(y):
        return (lambda z: helper(z))(y)
    return inner(x)

def in_class_body(x):
    class Local:
        value = helper(3)
        def own(self):
            self.found = self.other = self.third = self.fourth = x
            return self.found
    return Local.value

@count
def decorated(x):
    return x - 1

@functools.lru_cache
def cached(x):
    return helper(x)

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)

def make_adder(n):
    def add(x, *, k=7):
        return x + n + k
    return add
adder = make_adder(5)

def documented(x):
    """Return it."""
    return x

def uses_model(x):
    with LOCK:
        return Model().make()(x)

def uses_kind(x):
    return Kind.ONE.size()

def membership(x):
    return x in {"red", "green", "blue", 3} or math.floor(x)

def with_default(x, y=4, *, z={"p": 1}):
    return x

def uses_config(x):
    return Config().depth

partial = functools.partial(helper, 8)
method = Model().shift
instance = Model(0.75)
square = Square().area
config = Config()
pair = Pair()
anonymous = lambda x: x + SCALE
'''

NAMES = """helper through_comprehension nested in_class_body decorated cached even odd
    adder documented uses_model uses_kind membership with_default uses_config partial
    method instance square config pair anonymous Model Config Kind Square""".split()

#: What is replaced in the script, by what, and the functions that it makes others of.
CHANGES = [
    ('"""What the script', 'import sys\n\n\n"""What the old script', ""),
    ("SCALE = 3", "# a comment\n\n\n\nSCALE  =  3  # another", ""),
    ("UNUSED = 1", "UNUSED = 2\ndef new(): pass", ""),
    ("    offset = 10\n", "\n\n    # ten\n    offset = 10\n", ""),
    ("    return x * SCALE", "    # a comment\n    return (x\n        * SCALE)", ""),
    ("    class Local:", "\n\n    class Local:  # as before", ""),
    ("anonymous =", "\n\nanonymous =", ""),
    (
        *("SCALE = 3", "SCALE = 4"),
        "helper through_comprehension nested in_class_body cached partial anonymous",
    ),
    (
        *("return x * SCALE", "return x / SCALE"),
        "helper through_comprehension nested in_class_body cached partial",
    ),
    ("functools.partial(helper, 8)", "functools.partial(helper, 9)", "partial"),
    ("(helper, 8)", "(documented, 8)", "partial"),
    ('TABLE = {"a": [1, 2]}', 'TABLE = {"a": [1, 3]}', "Model"),
    ("offset = 10", "offset = 11", "Model"),
    ("x + self.offset", "x - self.offset", "Model"),
    ("rate=0.5", "rate=0.25", "Model"),
    ("self.shift(x) * self.rate", "self.shift(x) / self.rate", "Model"),
    ("2 * self.rate", "3 * self.rate", "Model"),
    ("x / 2", "x / 3", "Model"),
    ("return cls(TABLE", "return (cls)(1 + TABLE", "Model"),
    ('"""A model."""', '"""The model."""', "Model"),
    ("class Model(Base)", "class Model(Base, dict)", "Model"),
    ("Model(0.75)", "Model(0.7)", "instance"),
    ("TWO = 2", "TWO = 3", "Kind uses_kind"),
    ("self.value * 10", "self.value * 20", "Kind uses_kind"),
    ("return 4", "return 5", "Square square"),
    ("def area(self): ...", "def area(self): return 1", "Square square"),
    ("depth: int = 3", "depth: int = 4", "Config config uses_config"),
    ("default_factory=list", "default_factory=tuple", "Config config uses_config"),
    ("order=True", "order=False", "Config config uses_config"),
    ("x: int = 1", "x: int = 2", "pair"),
    ("    x: int = 1", "    y: int = 1", "pair"),
    ("+ 100", "+ 200", "decorated"),
    ("return x - 1", "return x - 2", "decorated"),
    ("lambda z: helper(z)", "lambda z: helper(z) + 1", "nested"),
    ("range(x)", "range(x + 1)", "through_comprehension"),
    ("value = helper(3)", "value = helper(4)", "in_class_body"),
    ("n != 0 and", "n != 1 and", "even odd"),
    ("make_adder(5)", "make_adder(6)", "adder"),
    ("k=7", "k=8", "adder"),
    ("x + n + k", "x + k + n", "adder"),
    ('"""Return it."""', '"""Return that."""', "documented"),
    ('"red", "green"', '"green", "red"', ""),
    ('"red", "green"', '"red", "gray"', "membership"),
    ("y=4", "y=4.0", "with_default"),
    ('"p": 1', '"p": 2', "with_default"),
    ("math.floor", "math.ceil", "membership"),
    ("def odd(n)", "def odd(m, n=1)", "even odd"),
    ("@functools.lru_cache\n", "@functools.lru_cache(maxsize=3)\n", "cached"),
    ("@functools.lru_cache\n", "", "cached"),
]
#: Who uses the class Model.
OF_MODEL = "Model uses_model method instance"


def load(source: str) -> dict[str, Any]:
    """Run a script, as `__main__`."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, f"/{len(source)}.py", "exec"), names)  # noqa: S102
    return names


def digests(source: str) -> dict[str, bytes | None]:
    """Return the digests of the functions of a script."""
    names = load(source)
    return {name: digest_function(names[name]).digest for name in NAMES}


@pytest.mark.parametrize(("before", "after", "others"), CHANGES)
def test_change_of_a_script(before: str, after: str, others: str) -> None:
    """It makes another function of each that uses what has changed, and of no other."""
    assert SCRIPT.count(before) == 1

    known, changed = digests(SCRIPT), digests(SCRIPT.replace(before, after))

    different = {name for name in NAMES if known[name] != changed[name]}
    assert different == set((OF_MODEL if others == "Model" else others).split())


def test_functions_differ() -> None:
    """Each from each other."""
    found = digests(SCRIPT)

    assert None not in found.values()
    assert len(set(found.values())) == len(NAMES)


def test_use_of_a_script_changes_nothing() -> None:
    """What Python adds to classes and caches when they are used."""
    names = load(SCRIPT)
    known = {name: digest_function(names[name]).digest for name in NAMES}
    for name in ("even", "cached", "decorated", "adder", "uses_model", "instance"):
        names[name](4)
    _ = names["Config"].__annotations__, names["Model"].__annotations__
    for each in (names["config"], names["instance"], names["pair"]):
        each.__reduce_ex__(4)
        CallDigests(len).of((each, names["Kind"].ONE), {})

    assert {name: digest_function(names[name]).digest for name in NAMES} == known


#: What else a script may have, in which sets, addresses or random names could show.
MORE = """
import contextlib, contextvars, ctypes

@functools.singledispatch
def show(x): return str(x)
@show.register
def _(x: int): return x + 1

@contextlib.contextmanager
def context(): yield 1

class Meta(type): pass
class Made(metaclass=Meta):
    def __init_subclass__(cls, **options): cls.options = options
class Sub(Made, more=5): pass

class Attribute:
    def __set_name__(self, owner, name): self.name = name
    def __get__(self, *_): return 1
class User:
    attribute = Attribute()
    @functools.cached_property
    def cached(self): return 1
    fixed = functools.partialmethod(helper, 3)

T = typing.TypeVar("T")
class Generic(typing.Generic[T]):
    def same(self, x: T) -> T: return x
class Protocol(typing.Protocol):
    def first(self) -> int: ...
    def second(self) -> int: ...
class Typed(typing.TypedDict, total=False):
    a: int
    b: str

class Open(abc.ABC): pass
@Open.register
class First: pass
@Open.register
class Second: pass

class Planet(enum.Enum):
    EARTH = 1, 2.0
    MARS = 3, 4.0
    def __init__(self, mass, radius): self.mass = mass
class Word(enum.StrEnum):
    X = enum.auto()
class Bits(enum.IntFlag):
    A, B, C = 1, 2, 4
class Structure(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int)]
Row = collections.namedtuple("Row", "a b", defaults=[3])

class Node:
    def __init__(self, parent): self.parent, self.nodes = parent, []
def grow():
    root = Node(None)
    root.nodes += [Node(root), Node(root)]
    return root
TREE, VARIABLE = grow(), contextvars.ContextVar("VARIABLE", default=3)
HANDLERS, WORDS = {grow, show, context}, {"a", "b", "cd", "e"}
def use(): return HANDLERS, WORDS, TREE, VARIABLE, Generic, Protocol, Typed, User, Open

more = show, context, Sub, User, Generic, Protocol, Typed, Open, Planet, use, Row
values = [Sub(), Planet.MARS, Word.X, Bits.A | Bits.C, Structure(1), Row(1), TREE]
"""

_TELL = """
import sys
from slurm_futures.calls.equality import CallDigests, digest_function
for each in more:
    print(digest_function(each).digest)
for name in sys.argv[1].split():
    print(name, digest_function(globals()[name]).digest)
values += [{"b", "c", 7}, config, instance, pair, Kind.TWO, lambda: helper, Model]
for value in (*values, *more):
    print(CallDigests(helper).of((value,), {}))
"""


def test_digests_are_the_same_in_other_processes(tmp_path: Path) -> None:
    """With other hash seeds, in another place, after edits above and below."""
    answers = set()
    edits = "", "import os\n\ndef first(): pass\n" + "\n" * 300, "\n# a comment\n"
    for seed, above in zip(("0", "1", "random"), edits, strict=True):
        script = tmp_path / seed / f"script{seed}.py"
        script.parent.mkdir()
        script.write_text(above + SCRIPT + above + MORE + "x = 5\n" + _TELL)
        run = subprocess.run(
            [sys.executable, script, " ".join(NAMES)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        answers.add(run.stdout)

    (answer,) = answers
    assert "None" not in answer
