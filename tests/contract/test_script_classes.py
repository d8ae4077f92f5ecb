"""Classes of a script, and objects of theirs, that make much of how they are made."""

from tests.contract.executors import RunScript

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
