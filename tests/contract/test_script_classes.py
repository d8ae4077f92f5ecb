"""Classes of a script, and objects of theirs, that make much of how they are made."""

from tests.contract.executors import RunScript

_ENUMERATIONS = """
import abc
import datetime
import enum
import functools
from dataclasses import dataclass
from executors import make_executor

class Planet(enum.Enum):
    EARTH = 6.0, 2.0
    MARS = 0.6, 1.0
    TERRA = 6.0, 2.0

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius

    @property
    def gravity(self):
        return self.mass / self.radius**2

class Coordinate(bytes, enum.Enum):
    X = 1, "km"

    def __new__(cls, value, unit):
        made = bytes.__new__(cls, [value])
        made._value_, made.unit = value, unit
        cls._value2member_map_[unit] = made
        return made

    __repr__ = __str__ = lambda self: self.name

class Priority(enum.IntEnum):
    LOW = 1, "later"

    def __new__(cls, value, label):
        made = int.__new__(cls, value)
        made._value_, made.label = value, label
        return made

class Name(enum.StrEnum):
    _generate_next_value_ = lambda name, *_: name.title()
    ADA = enum.auto()

class Right(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3

class Number(enum.IntFlag):
    ONE = 1
    TWO = 2

@dataclass
class Size:
    width: int
    height: int

class Paper(Size, enum.Enum):
    A4 = 210, 297

class Day(datetime.date, enum.Enum):
    FIRST = 2020, 1, 2

class Operation(enum.Enum):
    ADD = enum.member(functools.partial(lambda x, y: (Operation.ADD.name, x + y)))

class Meta(enum.EnumType):
    made = []

    def __new__(cls, name, *rest, **options):
        Meta.made.append(name)
        return super().__new__(cls, name, *rest, **options)

class AbstractMeta(abc.ABCMeta, Meta):
    pass

class Side(enum.Enum, metaclass=AbstractMeta):
    LEFT = 1
    RIGHT = 2

    @classmethod
    def _missing_(cls, value):
        return cls.LEFT if value == 0 else None

Side.LEFT.other, Side.RIGHT.other = Side.RIGHT, Side.LEFT
Made = enum.Enum("Made", "A B")
~Right.READ  # the member remembers what it finds

def look():
    flags = [Right.BOTH, ~Right.READ, list(Right.BOTH), Number.ONE | 8]
    return [
        [Planet.EARTH.gravity, Planet.TERRA is Planet.EARTH, [*Planet.__members__]],
        [bytes(Coordinate.X), Coordinate(1).unit, Coordinate("km").name],
        [Priority.LOW + 1, Priority(1).label, Name.ADA, f"{Name.ADA}", Made.B],
        [str(each) for each in flags],
        [Paper.A4.height, Paper(Size(210, 297)).name, Day.FIRST.year],
        [Operation.ADD.value(1, 2), Side(0), Side.LEFT.other.other, Meta.made],
        [isinstance(Side.LEFT, Side), len(Side), [*Side]],
    ]

def turn(member):
    return type(member)[member.name] is member, vars(member).keys() - {"_inverted_"}

def give():
    return Planet.TERRA, Coordinate.X, Priority.LOW, Number.ONE | 8, Paper.A4, Side.LEFT

MEMBERS = [Planet.EARTH, Coordinate.X, Priority.LOW, Right.BOTH, Day.FIRST, Side.LEFT]

if __name__ == "__main__":
    with make_executor(1) as executor:
        for _ in range(2):
            assert executor.submit(look).result() == look()
            for member in MEMBERS:
                same, names = executor.submit(turn, member).result()
                assert same and names == turn(member)[1], (member, names)
            both = Number.ONE | 8
            assert executor.submit(repr, both).result() == repr(both)
            for given, own in zip(executor.submit(give).result(), give()):
                assert given is own, own
    print("fine")
"""


def test_enumerations_travel_with_all_that_their_members_have(
    run_script: RunScript,
) -> None:
    """Whatever `__new__` and `__init__` have given to them; also a second time."""
    done = run_script(_ENUMERATIONS)

    assert done.stdout == "fine\n", done.stderr


_HOOKS = """
import abc
import typing
from executors import make_executor

log = []
T = typing.TypeVar("T")

class Keyed:
    count = 0

    def __init_subclass__(cls, *, key=None):
        log.append((cls.__name__, key))
        Keyed.count += 1
        cls.key = key

class Simple(Keyed, key=1):
    def who(self):
        return __class__.__name__, super().__repr__()[:10]

class Required:
    def __init_subclass__(cls, *, key):
        super().__init_subclass__()
        log.append((cls.__name__, key))
        cls.key = key

class Shape(Required, typing.Generic[T], key=2):
    pass

class Circle(Shape[int], key=3):
    pass

class Count(int, Required, key=4):
    pass

class Failure(Exception, Required, key=5):
    pass

class Slotted(Required, key=6):
    __slots__ = ("x",)

class Abstract(Required, abc.ABC, key=7):
    @abc.abstractmethod
    def area(self): ...

class Concrete(Abstract, key=8):
    def area(self):
        return 1

class Virtual:
    pass

Abstract.register(Virtual)

class Meta(type):
    def __prepare__(name, bases, **options):
        return {"prepared": True}

    def __new__(cls, name, bases, namespace, tag=None):
        log.append(("new", name, tag))
        return super().__new__(cls, name, bases, namespace)

    def __init__(cls, name, bases, namespace, tag=None):
        log.append(("init", name, tag))
        super().__init__(name, bases, namespace)
        type.__setattr__(cls, "tag", tag)

    def __setattr__(cls, name, value):
        raise TypeError("constant")

class Tagged(metaclass=Meta, tag="t"):
    class Inner:
        class Deep:
            pass

class First:
    pass

class Base:
    def name(self):
        return "base"

class Other(First):
    def name(self):
        return "other"

class Both(type("Mixed", (Other,), {}), Base):
    name = Base.name

def look():
    try:
        Abstract()
    except TypeError as error:
        refused = str(error)
    try:
        Tagged.tag = 2
    except TypeError as error:
        constant = str(error)
    return [
        [Keyed.count, Simple.key, Simple().who()[0], Circle.key, Circle.__orig_bases__],
        [Count(4) + 1, Count.key, Failure("x").args, Failure.key],
        [Slotted.key, hasattr(Slotted(), "__dict__")],
        [refused, Concrete().area(), isinstance(Virtual(), Abstract)],
        [Tagged.tag, Tagged.prepared, constant, Tagged.Inner.Deep.__qualname__],
        [Both().name(), log],
    ]

def give():
    return Circle(), Count(3), Concrete(), Tagged()

def fail():
    raise Failure("of the script")

if __name__ == "__main__":
    with make_executor(1) as executor:
        for _ in range(2):
            found, own = executor.submit(look).result(), look()
            assert str(found).replace("__mp_main__", "__main__") == str(own), found
            for given, here in zip(executor.submit(give).result(), give()):
                assert type(given) is type(here)
            assert isinstance(executor.submit(fail).exception(), Failure)
        assert len(log) == 10, log
    print("fine")
"""


def test_classes_are_made_once(run_script: RunScript) -> None:
    """What they and their bases do at that time is not done again in a job."""
    done = run_script(_HOOKS)

    assert done.stdout == "fine\n", done.stderr


_GUARDED = """
from executors import make_executor

class Constant:
    __slots__ = ("x", "__secret", "unset")

    def __init__(self, x):
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "_Constant__secret", x + 1)

    def __setattr__(self, name, value):
        raise AttributeError("constant")

    def secret(self):
        return self.__secret

class Logging:
    __slots__ = ("x", "__dict__")
    log = []

    def __init__(self):
        self.x = self.y = 1

    def __setattr__(self, name, value):
        Logging.log.append(name)
        object.__setattr__(self, name, value)

class Stateful(Constant):
    __slots__ = ()

    def __getstate__(self):
        return [self.x]

    def __setstate__(self, state):
        self.__init__(state[0])

constant, logging, stateful = Constant(3), Logging(), Stateful(5)

def look():
    return [
        (constant.x, constant.secret(), hasattr(constant, "unset")),
        (logging.x, logging.y, Logging.log, stateful.secret()),
    ]

if __name__ == "__main__":
    with make_executor(1) as executor:
        for _ in range(2):
            assert executor.submit(look).result() == look()
    print("fine")
"""


def test_objects_that_let_nobody_set_attributes_travel(run_script: RunScript) -> None:
    """As they are; their `__setattr__` is not asked."""
    done = run_script(_GUARDED)

    assert done.stdout == "fine\n", done.stderr


_WEAK = """
import contextvars
import ctypes
import weakref
from executors import make_executor

class Item:
    everything = weakref.WeakSet()

    def __init__(self, name):
        self.name = name
        Item.everything.add(self)

first, second = Item("first"), Item("second")
by_name = weakref.WeakValueDictionary(first=first, second=second)
numbers = weakref.WeakKeyDictionary({first: 1, second: 2})
level = contextvars.ContextVar("level", default=1)
level.set(5)
unset = contextvars.ContextVar("unset")
add = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + level.get())

def look():
    return [
        sorted(item.name for item in Item.everything),
        sorted((name, item.name) for name, item in by_name.items()),
        sorted(numbers.values()),
        [level.get(), unset.get("nothing"), add(1)],
    ]

def same():
    return by_name["first"] is first and first in Item.everything and numbers[first]

if __name__ == "__main__":
    with make_executor(1) as executor:
        for _ in range(2):
            assert executor.submit(look).result() == look()
            assert executor.submit(same).result() == 1
    print("fine")
"""


def test_what_is_held_elsewhere_is_there(run_script: RunScript) -> None:
    """Items of weak containers, values of context variables, functions for C."""
    done = run_script(_WEAK)

    assert done.stdout == "fine\n", done.stderr
