"""Functions that travel by value arrive as cloudpickle would have made them."""

import ctypes
import functools
import io
import math
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NewType, ParamSpec, TypeVarTuple

import cloudpickle
import pytest

from slurm_futures.calls.pickler import CLOUDPICKLE_VERSION, dump
from slurm_futures.node import classes, unpickler

FACTOR = 3


@functools.cache
def cached_one() -> int:
    """Have a name that the nodes find."""
    return 1


def load_light(blob: bytes, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Unpickle as a job does that has not imported cloudpickle."""
    monkeypatch.delitem(sys.modules, "cloudpickle.cloudpickle")
    loading = unpickler.ByValueUnpickler(io.BytesIO(blob))
    loading.made = []
    loading.without_cloudpickle = True
    loaded = loading.load()
    assert "cloudpickle.cloudpickle" not in sys.modules
    monkeypatch.undo()
    return loaded


def by_value_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of this module travel by value, as those of `__main__` do."""
    function.__module__ = "__main__"
    return function


def make_closure() -> Callable[..., Any]:
    """Return a function with a cell that is filled, and one that is not."""
    offset = [1, 2]

    def call(x: int) -> Any:
        return later(x) if x < 0 else x + offset[0]

    if offset == []:

        def later(x: int) -> int:
            return x

    return call


def make_recursive() -> Callable[..., Any]:
    """Return a function that refers to itself by its cell."""

    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    return factorial


def make_decorated() -> Callable[..., Any]:
    """Return a function with attributes of its own and one that it wraps."""

    def inner(x: int, /, y: int = 2, *, z: int = 3) -> int:
        """Add them."""
        return x + y + z

    @functools.wraps(inner)
    def outer(*args: int, **kwargs: int) -> int:
        return inner(*args, **kwargs)

    outer.note = {"unit": "m"}  # type: ignore[attr-defined]
    return outer


def make_counter() -> Callable[..., Any]:
    """Return a function that changes a cell."""
    count = 0

    def call(x: int) -> int:
        nonlocal count
        count += x
        return count

    return call


@by_value_only
def use_globals(x: float) -> tuple[float, str, float]:
    """Use a module, a submodule and a value of this module."""
    return math.sqrt(x) * FACTOR, os.path.join("a", "b"), helper(x)  # noqa: PTH118


@by_value_only
def helper(x: float) -> float:
    """Be called by a function that travels with it."""
    return x + FACTOR


FUNCTIONS = {
    "lambda": lambda x: x + 1,
    "closure": make_closure(),
    "recursive": make_recursive(),
    "decorated": make_decorated(),
    "counter": make_counter(),
    "globals": use_globals,
    "generator": lambda x: [each * each for each in range(x)],
    "partial": functools.partial(lambda x, y: x * y, y=5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_what_cloudpickle_makes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all that can be seen of it, and in what it returns."""
    blob = dump(FUNCTIONS[name])
    wanted = pickle.loads(blob)

    found = load_light(blob, monkeypatch)

    assert found(4) == wanted(4)
    assert describe(found) == describe(wanted)


def describe(function: Any) -> Any:
    """Return what tells two functions apart, with those that they refer to."""
    if isinstance(function, functools.partial):
        return describe(function.func), function.args, function.keywords
    if not hasattr(function, "__code__"):
        return repr(function)
    return (
        function.__code__,
        function.__name__,
        function.__qualname__,
        function.__module__,
        function.__doc__,
        function.__defaults__,
        function.__kwdefaults__,
        {key: str(each) for key, each in function.__annotations__.items()},
        [key for key in vars(function) if key != "__wrapped__"],
        sorted(function.__globals__),
        function.__globals__["__builtins__"] is vars(__import__("builtins")),
        len(function.__closure__ or ()),
    )


@by_value_only
def count_ways(steps: int) -> int:
    """Call itself through its cache."""
    return 1 if steps < 2 else cached_ways(steps - 1) + cached_ways(steps - 2)


cached_ways = functools.lru_cache(maxsize=50, typed=True)(count_ways)


def test_cache_of_a_function_travels_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty, and without cloudpickle."""
    found = load_light(dump(cached_ways), monkeypatch)

    assert found(20) == 10946
    assert found.cache_info().maxsize == 50
    assert found.cache_info().hits == 18
    assert found.cache_parameters() == {"maxsize": 50, "typed": True}
    assert found.__doc__ == "Call itself through its cache."


def test_cache_of_a_module_is_found_by_its_name() -> None:
    """As the functions of modules are."""
    assert pickle.loads(dump(functools.cache(textwrap.dedent))) is not None
    assert dump(cached_one).count(b"__main__") == 0
    assert pickle.loads(dump(cached_one)) is cached_one


UserId = NewType("UserId", int)
Length = NewType("Length", float)
Length.__module__ = "__main__"
P = ParamSpec("P")
P.__module__ = "__main__"
Shape = TypeVarTuple("Shape")
Shape.__module__ = "__main__"


def test_types_of_the_program_travel_by_value() -> None:
    """Those of modules by their name."""
    length = pickle.loads(dump(Length))

    assert pickle.loads(dump(UserId)) is UserId
    assert (length.__name__, length.__module__) == ("Length", "__main__")
    assert length.__supertype__ is float
    assert pickle.loads(dump(P)).__name__ == "P"
    assert pickle.loads(dump(Shape)).__name__ == "Shape"


def test_functions_that_share_globals_still_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of one module."""
    first, second = load_light(dump((use_globals, helper)), monkeypatch)

    assert first.__globals__ is second.__globals__


def test_a_cell_stays_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is Python's own."""
    found = load_light(dump(make_closure()), monkeypatch)

    with pytest.raises(NameError, match="later"):
        found(-1)


def run_job(program: str, directory: Path) -> str:
    """Run a program with the local scheduler; return what it prints."""
    script = directory / "program.py"
    script.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=directory,
        env={**os.environ, "SLURM_FUTURES_SCHEDULER": "local"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_job_needs_no_cloudpickle_for_functions(tmp_path: Path) -> None:
    """Of the program that is run, with what they use of it."""
    printed = run_job(
        """
        import sys
        from slurm_futures import SlurmExecutor

        SCALE = 10

        def scale(x):
            return x * SCALE

        def call(x):
            return scale(x), "cloudpickle" in sys.modules

        if __name__ == "__main__":
            with SlurmExecutor(initializer=lambda: None) as executor:
                print(executor.submit(call, 4).result())
        """,
        tmp_path,
    )

    assert printed == "(40, False)\n"


def test_a_job_imports_cloudpickle_for_classes(tmp_path: Path) -> None:
    """Their instances are instances of the same class when they come back."""
    printed = run_job(
        """
        import dataclasses
        from slurm_futures import SlurmExecutor

        @dataclasses.dataclass
        class Point:
            x: int

        def move(point):
            return Point(point.x + 1)

        if __name__ == "__main__":
            with SlurmExecutor() as executor:
                moved = executor.submit(move, Point(1)).result()
                print(moved, isinstance(moved, Point))
        """,
        tmp_path,
    )

    assert printed == "Point(x=2) True\n"


def test_the_release_of_cloudpickle_here_is_known() -> None:
    """Compare the functions of a new one with ours, then add it."""
    release = unpickler.release_of(CLOUDPICKLE_VERSION)

    assert release in unpickler.KNOWN_RELEASES


def test_other_releases_of_cloudpickle_load_their_own_pickles() -> None:
    """Nothing is assumed of them."""
    loading = unpickler.ByValueUnpickler(io.BytesIO(dump(FUNCTIONS["lambda"])))
    loading.made = []

    cloudpickle = __import__("cloudpickle.cloudpickle").cloudpickle
    found = loading.find_class("cloudpickle.cloudpickle", "_make_cell")

    assert found is cloudpickle._make_cell


def _refuse(*_: Any) -> type:
    raise TypeError("refused")


def test_class_that_cannot_be_made_at_all_is_an_error() -> None:
    """Of the first attempt, which tells more, and of which class it is."""
    _refuse.__name__ = "_make_skeleton_class"
    impossible = type, "Impossible", (), {"__slots__": ("not a name",)}, "id", None

    with pytest.raises(TypeError, match=r"class Impossible .*refused.* put it into"):
        classes.make_class(_refuse, impossible)


def test_metaclass_that_is_not_made_in_python_makes_its_classes_itself() -> None:
    """It may keep with a class what Python knows nothing of."""
    bare: Any = type(ctypes.Structure), "Pair", (ctypes.Structure,), {}, "pair", True
    made = cloudpickle.cloudpickle._make_skeleton_class

    cls = classes.make_class(made, bare)
    cls._fields_ = [("x", ctypes.c_int)]  # type: ignore[attr-defined]

    assert ctypes.sizeof(cls) == ctypes.sizeof(ctypes.c_int)
