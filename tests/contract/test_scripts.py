"""Functions and classes that belong to a script, or to a module that lies beside it."""

from hashlib import sha256
from pathlib import Path

import pytest

from tests.contract.executors import RunScript

_SCRIPT = """
import enum
from dataclasses import dataclass
from executors import make_executor

FACTOR = 3

@dataclass(frozen=True)
class Point:
    x: int

    def scaled(self):
        return Point(self.x * FACTOR)

class Color(enum.Enum):
    RED = 1

class ScriptError(Exception):
    pass

class Node:
    children: "list[Node]"

    def __init__(self, children):
        self.children = children

def scale(point):
    return point.scaled()

def fail():
    raise ScriptError("of the script")

def colors():
    return {"red": Color.RED}

def tree():
    return Node([Node([]), Node([])])

def main():
    with make_executor(2) as executor:
        moved = executor.submit(scale, Point(2))
        method = executor.submit(Point(5).scaled)
        failing = executor.submit(fail)
        colored = executor.submit(colors)
        grown = executor.submit(tree)
        mapped = list(executor.map(Point, [1, 2]))
    assert moved.result() == Point(6), moved.result()
    assert isinstance(moved.result(), Point)
    assert method.result() == Point(15)
    assert isinstance(failing.exception(), ScriptError), repr(failing.exception())
    assert colored.result()["red"] is Color.RED
    assert all(isinstance(child, Node) for child in grown.result().children)
    assert mapped == [Point(1), Point(2)]
    print("fine")

if __name__ == "__main__":
    main()
"""


def test_script_can_submit_its_own_functions_and_classes(
    run_script: RunScript,
) -> None:
    """Functions of `__main__` run, and instances of its classes are what they were."""
    ended = run_script(_SCRIPT)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "fine\n", "")


_CLASS_STATE = """
from executors import make_executor

FACTOR = 1

class Plugin:
    known = []

    def __init_subclass__(cls):
        Plugin.known.append(cls)

class Model(Plugin):
    made = 0

    def __init__(self):
        Model.made += 1

    def scaled(self):
        return 2 * FACTOR

class ModelError(Exception):
    code = 1

def make():
    return Model()

def fail():
    raise ModelError("of the call")

if __name__ == "__main__":
    with make_executor(1) as executor:
        made = executor.submit(make)
        failed = executor.submit(fail)
        scaled, known = Model.scaled, Plugin.known
        Model.made = 5
        FACTOR = 10
        ModelError.code = 2
        model = made.result()
        error = failed.exception()
    assert type(model) is Model
    assert Model.made == 5, Model.made
    assert Model.scaled is scaled
    assert (model.scaled(), Model().scaled()) == (20, 20)
    assert Plugin.known is known
    assert known == [Model], known
    assert (type(error), error.code) == (ModelError, 2)
    print("fine")
"""


def test_result_leaves_the_classes_of_the_script_alone(run_script: RunScript) -> None:
    """What comes back is an instance of them, and changes nothing in them."""
    ended = run_script(_CLASS_STATE)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "fine\n", "")


_INITIALIZED = """
from executors import make_executor

MODEL = None
CACHE = {}
FACTOR = 1

class Settings:
    size = 0
    names = []
    factor = 1

def prepare(size):
    global MODEL, UNDECLARED
    MODEL = [size]
    UNDECLARED = FACTOR
    CACHE["size"] = size
    Settings.size = Settings.factor * size
    Settings.names.append("prepared")

def look():
    return MODEL, UNDECLARED, CACHE, Settings.size, Settings.names

class Reader:
    def read(self):
        return MODEL, CACHE

def read(reader):
    return reader.read()

def factors():
    return FACTOR, Settings.factor

if __name__ == "__main__":
    with make_executor(1, initializer=prepare, initargs=(5,)) as executor:
        FACTOR = Settings.factor = 2
        print(executor.submit(look).result())
        print(*executor.map(read, [Reader(), Reader()], chunksize=2))
        print(executor.submit(Reader().read).result())
        print(executor.submit(factors).result())
"""


def test_calls_find_what_an_initializer_of_the_script_has_done(
    run_script: RunScript, kind: str
) -> None:
    """It assigns global variables, and changes objects and classes of the script."""
    ended = run_script(_INITIALIZED)

    assert (ended.returncode, ended.stderr) == (0, "")
    looked, read, method, factors = ended.stdout.splitlines()
    assert looked == "([5], 1, {'size': 5}, 5, ['prepared'])"
    assert read == "([5], {'size': 5}) ([5], {'size': 5})"
    # A process that imports the script knows of no assignment in `if __name__ ...`.
    assert method == "([5], {'size': 5})"
    assert factors == ("(1, 1)" if kind == "process_pool" else "(2, 2)")


_SHARED_GLOBALS = """
from executors import make_executor

CACHE = {}
count = 0

class Model:
    def fit(self):
        global count
        CACHE["fitted"] = True
        count += 1
        return self

def fit(model):
    return CACHE is model.fit().fit().cache(), CACHE, count

Model.cache = lambda self: CACHE

def call(function, *args):
    return function(*args), CACHE

def change():
    CACHE["changed"] = True

if __name__ == "__main__":
    with make_executor(1, max_tasks_per_child=1) as executor:
        print(executor.submit(fit, Model()).result())
        print(executor.submit(call, change).result())
"""


def test_arguments_and_function_share_global_variables(run_script: RunScript) -> None:
    """A method of an argument changes what the function of the call sees."""
    ended = run_script(_SHARED_GLOBALS)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "(True, {'fitted': True}, 2)",
        "(None, {'changed': True})",
    ]


_SLOTS = """
from dataclasses import dataclass
from typing import NamedTuple
from executors import make_executor

@dataclass(slots=True)
class Point:
    x: int

class Named(Point):
    __slots__ = ("__name", "__weakref__")

    def __init__(self, x, name):
        super().__init__(x)
        self.__name = name

    def name(self):
        return self.__name

class Open(Named):
    pass

class Empty:
    __slots__ = ()

class AlsoEmpty(Empty):
    __slots__ = ()

class Pair(NamedTuple):
    first: int
    second: int = 2

def make(cls, *args):
    made = cls(*args)
    return made, hasattr(made, "__dict__")

if __name__ == "__main__":
    with make_executor(1) as executor:
        point = executor.submit(make, Point, 1)
        named = executor.submit(make, Named, 2, "n")
        opened = executor.submit(make, Open, 3, "o")
        pair = executor.submit(make, Pair, 1)
        assert pair.result() == (Pair(1), False), pair.result()
        empty = executor.submit(make, AlsoEmpty)
        assert type(empty.result()[0]) is AlsoEmpty
        assert not empty.result()[1]
        assert point.result() == (Point(1), False), point.result()
        assert named.result()[0].name() == "n"
        assert not named.result()[1]
        assert (opened.result()[0].name(), opened.result()[1]) == ("o", True)
    print("fine")
"""


def test_classes_with_slots_travel_in_both_directions(run_script: RunScript) -> None:
    """They have them in the job, so that instances come back."""
    ended = run_script(_SLOTS)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "fine\n", "")


_DECORATED = """
import functools
import typing
from executors import make_executor

UserId = typing.NewType("UserId", int)
P = typing.ParamSpec("P")
T = typing.TypeVar("T")
Ts = typing.TypeVarTuple("Ts")

@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def use_cache(n):
    return fib(n), fib.cache_info().currsize

def logged(fn: typing.Callable[P, T]) -> typing.Callable[P, T]:
    @functools.wraps(fn)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return fn(*args, **kwargs)
    return wrapper

@logged
def typed(user: UserId, *rest: typing.Unpack[Ts]) -> int:
    return user

@functools.singledispatch
def describe(value):
    return "object"

@describe.register
def _(value: int):
    return "integer"

class Model:
    def __init__(self, size):
        self.size = size

    @functools.cached_property
    def volume(self):
        return self.size ** 3

def volume(size):
    return Model(size).volume

if __name__ == "__main__":
    with make_executor(2) as executor:
        calls = [
            executor.submit(fib, 20), executor.submit(use_cache, 20),
            executor.submit(typed, 3), executor.submit(describe, 3),
            executor.submit(describe, "x"), executor.submit(volume, 2),
            executor.submit(getattr, Model(3), "volume"),
        ]
        print(*[call.result() for call in calls])
"""


def test_script_can_submit_what_the_standard_library_decorates(
    run_script: RunScript,
) -> None:
    """Caches, generic functions, cached properties, types with names."""
    ended = run_script(_DECORATED)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "6765 (6765, 21) 3 integer object 8 27\n"


_PROCESSES = """
import functools
import multiprocessing
import pickle
import typing
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from executors import make_executor

# The workers of ProcessPoolExecutor have threads.
warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
fork = multiprocessing.get_context("fork")
FACTOR = 10

@dataclass
class Node:
    number: int
    parent: "Node | None" = None

@functools.cache
def scale(number):
    return number * FACTOR

def grow(node):
    return Node(scale(node.number), node)

def use_pool(count):
    with fork.Pool(2) as pool:
        return pool.map(grow, map(Node, range(count)))

def use_executor(function, count):
    with ProcessPoolExecutor(2, mp_context=fork) as executor:
        return list(executor.map(function, range(count)))

def look(number):
    import __main__
    hints = typing.get_type_hints(Node)
    again = pickle.loads(pickle.dumps(Node(number)))
    return hints["parent"] == Node | None, again == Node(number), __main__.grow is grow

if __name__ == "__main__":
    with make_executor(1) as executor:
        grown = executor.submit(use_pool, 3)
        scaled = executor.submit(use_executor, scale, 3)
        looked = executor.submit(look, 3)
        again = executor.submit(use_pool, 2)
        assert grown.result()[2] == Node(20, Node(2)), grown.result()
        assert isinstance(grown.result()[2].parent, Node)
        assert scaled.result() == [0, 10, 20]
        assert looked.result() == (True, True, True), looked.result()
        assert again.result() == grown.result()[:2]
    print("fine")
"""


def test_call_finds_its_script_in_main(run_script: RunScript) -> None:
    """So processes that it forks can run functions of `__main__`, as pickle wants."""
    ended = run_script(_PROCESSES)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "fine\n", "")


_OWN_FILE = """
import sys
from executors import make_executor

def look():
    return sys.modules["__main__"].__file__, __file__

if __name__ == "__main__":
    with make_executor(1) as executor:
        found = executor.submit(look).result()
    assert found == (__file__, __file__), found
    print("fine")
"""


def test_main_has_the_file_of_the_script(run_script: RunScript) -> None:
    """As a module, and as a global variable."""
    ended = run_script(_OWN_FILE)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "fine\n", "")


def test_script_can_submit_functions_of_a_neighbour_module(
    run_script: RunScript, tmp_path: Path
) -> None:
    """A module beside the script that nobody installed is found by the call."""
    (tmp_path / "neighbour.py").write_text(
        "class Thing:\n"
        "    pass\n"
        "def make():\n"
        "    from second_neighbour import NUMBER\n"
        "    thing = Thing()\n"
        "    thing.number = NUMBER\n"
        "    return thing\n"
    )
    (tmp_path / "second_neighbour.py").write_text("NUMBER = 5\n")
    ended = run_script(
        """
from executors import make_executor
import neighbour

if __name__ == "__main__":
    with make_executor(1) as executor:
        thing = executor.submit(neighbour.make).result()
    assert isinstance(thing, neighbour.Thing)
    print(thing.number)
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "5\n", "")


def test_call_finds_a_module_on_a_path_that_the_script_added(
    run_script: RunScript, tmp_path: Path
) -> None:
    """What the program put on `sys.path` is there in the call."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "far_module.py").write_text("def make():\n    return 6\n")
    ended = run_script(
        """
import sys
from executors import make_executor
sys.path.append("extra")
import far_module

if __name__ == "__main__":
    with make_executor(1) as executor:
        print(executor.submit(far_module.make).result())
"""
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "6\n", "")


_MOVED = """
import os
import sys
from multiprocessing import get_context
from executors import make_executor

{use}

if __name__ == "__main__":
    with make_executor(1, mp_context=get_context("fork")) as executor:
        print(executor.submit(far_module.make).result())
"""


@pytest.mark.parametrize(
    "use",
    [
        'sys.path.append("extra"); import far_module; os.chdir("out")',
        'sys.path.append("extra"); import far_module; sys.path.pop()',
        'os.chdir("extra"); sys.path.append(""); import far_module; os.chdir("..")',
    ],
    ids=["moved", "removed", "empty"],
)
def test_call_finds_a_module_where_the_script_has_found_it(
    run_script: RunScript, tmp_path: Path, use: str
) -> None:
    """Also where `sys.path` or the directory is another one by now."""
    (tmp_path / "out").mkdir()
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "near_module.py").write_text("NUMBER = 6\n")
    (tmp_path / "extra" / "far_module.py").write_text(
        "import near_module\ndef make():\n    return near_module.NUMBER\n"
    )
    ended = run_script(_MOVED.format(use=use))

    assert (ended.returncode, ended.stdout) == (0, "6\n"), ended.stderr


_LOADED = """
import importlib.util
import sys
import types
from executors import make_executor

def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

{make}

if __name__ == "__main__":
    with make_executor(1) as executor:
        print(executor.submit(plugin.double, plugin.Number(4)).result().value)
        print(executor.submit(plugin.Number(5).double).result())
"""

_PLUGIN = """
FACTOR = 2

class Number:
    def __init__(self, value):
        self.value = value

    def double(self):
        return FACTOR * self.value

def double(number):
    return Number(number.double())
"""


@pytest.mark.parametrize(
    "make",
    [
        'plugin = load("plugin", "plugins/plugin.py")',
        'plugin = load("my_plugin", "plugins/plugin.py")',
        'plugin = load("json", "plugins/plugin.py")',
        'plugin = types.ModuleType("made"); sys.modules["made"] = plugin; '
        'exec(open("plugins/plugin.py").read(), vars(plugin))',
    ],
    ids=["by path", "another name", "name of another", "in memory"],
)
def test_script_can_submit_functions_of_a_module_that_it_loads_itself(
    run_script: RunScript, tmp_path: Path, make: str
) -> None:
    """No search of modules would find them."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "plugin.py").write_text(_PLUGIN)
    ended = run_script(_LOADED.format(make=make))

    assert (ended.returncode, ended.stdout) == (0, "8\n10\n"), ended.stderr


def test_program_from_the_command_line_can_submit(
    run_script: RunScript,
) -> None:
    """A call finds the arguments of the program in `sys.argv`."""
    ended = run_script(
        """
import sys
from executors import make_executor

def arguments():
    return sys.argv[1:]

if __name__ == "__main__":
    sys.argv += ["--seed", "5"]
    with make_executor(1) as executor:
        print(executor.submit(arguments).result())
"""
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "['--seed', '5']\n"


_LOCKS = """
import functools
import queue
import threading
from executors import make_executor

lock = threading.Lock()
found = queue.Queue()

def synchronized(function):
    own = threading.RLock()

    @functools.wraps(function)
    def locked(*args):
        with own:
            return function(*args)

    return locked

class Registry:
    _lock = threading.Condition()

    @classmethod
    def get(cls):
        with cls._lock:
            return 1

@synchronized
def work(number):
    with lock:
        found.put(number)
        return found.get() + Registry.get()

if __name__ == "__main__":
    with make_executor(1) as executor:
        assert list(executor.map(work, [1, 2])) == [2, 3]
    print("fine")
"""


def test_script_may_use_locks_and_queues(run_script: RunScript) -> None:
    """Each job has its own, as each process that imports the script."""
    done = run_script(_LOCKS)

    assert done.stdout == "fine\n", done.stderr


_VALUES = """
import ctypes
import functools
import hashlib
import json
import random
import re
import struct
import threading
import weakref
from executors import make_executor

class Node(ctypes.Structure):
    pass

Node._fields_ = [("value", ctypes.c_int), ("next", ctypes.POINTER(Node))]

class Record(ctypes.BigEndianStructure):
    _pack_ = 1
    _fields_ = [("kind", ctypes.c_char), ("value", ctypes.c_double)]

class Owner:
    value = 5

mathematics = ctypes.CDLL("libm.so.6")
mathematics.sqrt.restype = ctypes.c_double
mathematics.sqrt.argtypes = [ctypes.c_double]
cos = mathematics["cos"]
cos.restype, cos.argtypes = ctypes.c_double, [ctypes.c_double]
callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
numbers = (ctypes.c_int * 3)(1, 2, 3)
records = (Record * 2)(Record(b"a", 2.0))

def use_ctypes(factor):
    node = Node(5)
    return (
        Node(4, ctypes.pointer(node)).next.contents.value,
        [ctypes.sizeof(Record), records[0].value, list(numbers)],
        [mathematics.sqrt(4.0), cos(0.0), callback_type(lambda x: x * factor)(3)],
    )

header = struct.Struct("<IH")
third = list(re.finditer("(.)b", "abcbdb"))[2]
digest = hashlib.sha256()
short_digest = hashlib.blake2b(digest_size=8)
owner = Owner()
reference, dead = weakref.ref(owner), weakref.ref(Owner())
descending = functools.cmp_to_key(lambda a, b: b - a)
decoder = json.JSONDecoder(object_hook=list)
entropy = random.SystemRandom()
locks = {"a": [threading.Lock()]}

def use_values(factor):
    with locks["a"][0]:
        digest.update(bytes([factor]))
    return [
        (header.size, third[1], third.span(), digest.hexdigest()),
        (short_digest.digest_size, reference().value, dead(), entropy.random() < 1),
        (sorted([1, 3, 2], key=descending), decoder.decode('{"a": 1}')),
    ]

if __name__ == "__main__":
    with make_executor(1) as executor:
        for use in [use_ctypes, use_values]:
            for factor in [1, 2]:
                print(executor.submit(use, factor).result())
"""


def test_script_may_use_what_can_be_made_anew(run_script: RunScript) -> None:
    """A job has the same, though it cannot be copied; also for the second time."""
    done = run_script(_VALUES)

    first = sha256(b"\1").hexdigest()
    assert done.stdout.splitlines() == [
        "(5, [9, 2.0, [1, 2, 3]], [2.0, 1.0, 3])",
        "(5, [9, 2.0, [1, 2, 3]], [2.0, 1.0, 6])",
        f"[(6, 'd', (4, 6), '{first}'), (8, 5, None, True), ([3, 2, 1], ['a'])]",
        done.stdout.splitlines()[3],
    ], done.stderr


_METACLASSES = """
import abc
from typing import Generic, TypeVar
from executors import make_executor

T = TypeVar("T")
known = {}

class Unit(type):
    def __new__(cls, name, bases, namespace, unit):
        made = super().__new__(cls, name, bases, namespace)
        made.unit = unit
        return made

    def __init__(cls, name, bases, namespace, unit):
        super().__init__(name, bases, namespace)

class AbstractUnit(abc.ABCMeta):
    def __new__(cls, name, bases, namespace, *, unit):
        return super().__new__(cls, name, bases, {**namespace, "unit": unit})

class Plugin:
    def __init_subclass__(cls, /, unit, **rest):
        super().__init_subclass__(**rest)
        if cls.__name__ in known:
            raise ValueError("there is one")
        known[cls.__name__] = cls
        cls.unit = unit

class Once(type):
    def __init__(cls, name, bases, namespace):
        super().__init__(name, bases, namespace)
        if name in known:
            raise ValueError("there is one")
        known[name] = cls

class Mass(metaclass=Unit, unit="kg"):
    pass

class Length(Generic[T], metaclass=AbstractUnit, unit="m"):
    @property
    @abc.abstractmethod
    def value(self): ...

class Height(Length[int], unit="cm"):
    value = 2

class Time(Plugin, unit="s"):
    pass

class Ticks(int, Plugin, unit="t"):
    pass

class Single(metaclass=Once):
    unit = "1"

def look(factor):
    try:
        Length()
    except TypeError:
        abstract = True
    assert isinstance(Height(), Length) and Mass.unit == "kg" and Ticks(3) == 3
    units = [each.unit for each in (Mass, Length, Height, Time, Ticks, Single)]
    assert known["Time"] is Time and known["Single"] is Single
    assert type(Single) is Once and Time.__bases__ == (Plugin,)
    return abstract, units, Time(), Ticks(factor)

if __name__ == "__main__":
    with make_executor(1) as executor:
        for factor in [1, 2]:
            *values, time, ticks = executor.submit(look, factor).result()
            assert (type(time), type(ticks), ticks) == (Time, Ticks, factor)
            print(*values)
"""


def test_classes_need_no_arguments_of_their_metaclass_again(
    run_script: RunScript,
) -> None:
    """Nor those of their bases, which may also refuse to make the same class twice."""
    done = run_script(_METACLASSES)

    line = "True ['kg', 'm', 'cm', 's', 't', '1']\n"
    assert done.stdout == 2 * line, done.stderr


_OVERLOOKED = """
import builtins
import gettext
import math
import sys
import types
from executors import make_executor

FACTOR, STEP, UNIT = 3, 2, "m"
tenfold = lambda number: 10 * number
builtins.shout = lambda text: text + "!"
gettext.install("nothing")

def decorate(cls):
    cls.unit = UNIT
    return cls

def make(number):
    @decorate
    class Outer:
        area = math.pi > 3

        class Inner:
            value = tenfold(number)

            def scaled(self, step=STEP):
                return self.value * FACTOR * step

    return [Outer.Inner().scaled(), Outer.area, Outer.unit, shout(_("done"))]

if __name__ == "__main__":
    with make_executor(1) as executor:
        print(executor.submit(make, 4).result())
"""


def test_call_finds_what_only_the_body_of_a_class_uses(run_script: RunScript) -> None:
    """And what the program has added to Python's own names."""
    done = run_script(_OVERLOOKED)

    assert done.stdout == "[240, True, 'm', 'done!']\n", done.stderr
