"""Which changes of a program make other calls of its functions, and which do not."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls import origins
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


# Modules.

_numbers = itertools.count()


@pytest.fixture
def write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], Path]]:
    """Give a function that writes modules which can be imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(source)
        importlib.invalidate_caches()
        return path

    before = set(sys.modules)
    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


MODULE = '''"""A module."""
import functools
X = 1
def f(x):
    """Return more."""
    return g(x) + X
def g(x):
    return x
class Box:
    def __init__(self, x=1):
        self.x = x
@functools.lru_cache
def cached(x):
    return x
'''


def _users(module: types.ModuleType) -> list[Any]:
    """Return functions that use a module, each in another way."""
    source = """
def by_module(x): return module.f(x)
def by_name(x): return f(x)
def by_class(x): return Box(x)
"""
    names = {"__name__": "__main__", "module": module, **vars(module)}
    names["__name__"] = "__main__"
    exec(source, names)  # noqa: S102
    own = names["by_module"], names["by_name"], names["by_class"]
    return [*own, module.f, module.cached, module.Box, module.Box(1).__init__]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("A module", "The module", True),
        ('"""A module."""\n', "", True),
        ("X = 1", "# one\n\nX = (\n    1)", True),
        ("X = 1", "X = 2", False),
        ("return x\nclass", "return -x\nclass", False),
        ("Return more", "Return most", False),
        ("X = 1", "X = __doc__", False),
    ],
)
def test_change_of_a_module(
    write: Callable[[str, str], Path], before: str, after: str, same: bool
) -> None:
    """All that is in it counts, as it is in the file now: jobs read it anew."""
    write("equality_module.py", MODULE)
    module = importlib.import_module("equality_module")
    users = _users(module)
    known = [digest_function(each).digest for each in users]
    given = [CallDigests(len).of((each,), {}) for each in (module.f, module.Box(1))]
    assert None not in [*known, *given]

    write("equality_module.py", MODULE.replace(before, after))

    now = [digest_function(each).digest for each in users]
    assert [each == other for each, other in zip(now, known, strict=True)] == [
        same
    ] * len(users)
    again = [CallDigests(len).of((each,), {}) for each in (module.f, module.Box(1))]
    assert (again == given) is same


def test_module_that_is_used_through_its_package(
    write: Callable[[str, str], Path],
) -> None:
    """Its code counts, too."""
    write("equality_package/__init__.py", "")
    write("equality_package/part.py", MODULE)
    package = importlib.import_module("equality_package")
    importlib.import_module("equality_package.part")
    names = {"__name__": "__main__", "equality_package": package}
    exec("def f(x): return equality_package.part.f(x)", names)  # noqa: S102
    known = digest_function(names["f"]).digest  # type: ignore[arg-type]

    write("equality_package/part.py", MODULE.replace("X = 1", "X = 2"))

    assert known is not None
    assert digest_function(names["f"]).digest != known  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        "import equality_lazy.part",
        "import equality_lazy.part as part",
        "from equality_lazy import part",
        "from equality_lazy.part import f",
        "from .equality_lazy.part import f",
        "from . import equality_lazy; from .equality_lazy import part",
    ],
)
def test_module_that_is_imported_in_a_function(
    write: Callable[[str, str], Path], line: str
) -> None:
    """It counts without being loaded; later it is the same one."""
    name = "equality_outer." if "." in line.split()[1][:1] else ""
    path = f"{name}equality_lazy/part.py".replace(".equ", "/equ")
    for each in ("equality_outer", path.rpartition("/")[0]):
        write(f"{each}/__init__.py", "")
    write(path, MODULE)
    names: dict[str, Any] = {"__name__": "__main__"}
    if name:
        importlib.import_module("equality_outer")
        names["__package__"] = "equality_outer"
    exec(f"def f(x):\n    def inner(): {line}\n    inner()", names)  # noqa: S102
    known = digest_function(names["f"]).digest
    assert not any("equality_lazy" in each for each in sys.modules)

    write(path, MODULE.replace("X = 1", "X = 2"))
    changed = digest_function(names["f"]).digest
    write(path, MODULE)
    importlib.import_module(f"{name}equality_lazy.part")

    assert None not in (known, changed)
    assert changed != known
    assert digest_function(names["f"]).digest == known


def test_module_that_is_not_there(write: Callable[[str, str], Path]) -> None:
    """As in functions that can do without."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("def f(): import equality_none.part, json.none", names)  # noqa: S102
    known = digest_function(names["f"]).digest

    write("equality_none/part.py", MODULE)

    assert known is not None
    assert digest_function(names["f"]).digest not in {None, known}


def test_module_that_cannot_be_read(write: Callable[[str, str], Path]) -> None:
    """Nobody knows what a job would find."""
    path = write("equality_gone.py", MODULE)
    module = importlib.import_module("equality_gone")

    for spoil in (lambda: path.write_text("def f(:"), path.unlink):
        spoil()
        found = digest_function(module.f)
        assert (found.digest, found.cause) == (None, "module equality_gone")
        assert found.name == "equality_gone.f"


def test_module_that_no_job_finds_travels_by_value() -> None:
    """So its functions are those of a script."""

    def make(source: str) -> Any:
        module = types.ModuleType("equality_memory")
        sys.modules["equality_memory"] = module
        exec(source, vars(module))  # noqa: S102
        return digest_function(module.f).digest

    try:
        known = make(MODULE)
        assert known is not None
        assert make("\n\n" + MODULE) == known
        assert make(MODULE.replace("Box", "Bag")) == known
        assert make(MODULE.replace("X = 1", "X = 2")) != known
    finally:
        del sys.modules["equality_memory"]


def test_installed_package_counts_by_its_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its name is that of the module, or is found in the list of packages."""
    known = digest_function(pytest.raises).digest
    origins._describe_installed.cache_clear()
    origins._version.cache_clear()

    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 999")

    assert known is not None
    assert digest_function(pytest.raises).digest != known
    assert origins._version("_pytest")
    origins._describe_installed.cache_clear()
    origins._version.cache_clear()
