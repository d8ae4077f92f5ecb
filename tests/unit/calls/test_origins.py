"""Which changes of modules make other calls of functions that use them."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls import origins
from slurm_futures.calls.equality import CallDigests, digest_function


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
    """Its code counts, too, whether it is loaded yet or not."""
    write("equality_package/__init__.py", "")
    write("equality_package/part.py", MODULE)
    package = importlib.import_module("equality_package")
    names = {"__name__": "__main__", "equality_package": package}
    exec("def f(x): return equality_package.part.f(x)", names)  # noqa: S102
    known = digest_function(names["f"]).digest  # type: ignore[arg-type]
    importlib.import_module("equality_package.part")
    assert digest_function(names["f"]).digest == known is not None  # type: ignore[arg-type]

    write("equality_package/part.py", MODULE.replace("X = 1", "X = 2"))

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


def test_module_in_an_archive(
    write: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read there, and is the same one as in a directory."""
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as file:
        file.writestr("equality_archived.py", MODULE)
    monkeypatch.syspath_prepend(tmp_path / "archive.zip")
    module = importlib.import_module("equality_archived")
    known = digest_function(module.f).digest

    del sys.modules["equality_archived"]
    write("equality_archived.py", MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    again = importlib.import_module("equality_archived")

    assert "archive.zip" in str(module.__file__)
    assert "archive.zip" not in str(again.__file__)
    assert digest_function(again.f).digest == known is not None


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
