"""Classes of a script, and objects of theirs, that make much of how they are made."""

from tests.contract.executors import RunScript

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
