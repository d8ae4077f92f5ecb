"""Which modules of this program jobs find, and where they look."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest

from slurm_futures.calls.search_path import is_found, search_path


def _module(path: Path, name: str) -> None:
    path.mkdir(exist_ok=True)
    (path / f"{name}.py").write_text("")


@pytest.fixture(autouse=True)
def no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the directories that other tests have left, and in the end these."""
    monkeypatch.setattr("slurm_futures.calls.search_path._others", {})
    monkeypatch.setattr("slurm_futures.calls.search_path._known", {})


@pytest.mark.parametrize("name", ["__main__", "sys", "os.path", "json", "pytest", None])
def test_modules_that_python_finds_are_found(name: object) -> None:
    """Built-in ones, packages, and what has no module at all."""
    assert is_found(name)


def test_relative_entry_means_where_it_was_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python goes on to look there as well."""
    _module(tmp_path / "lib", "search_path_used")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("lib")
    importlib.import_module("search_path_used")
    monkeypatch.chdir("/")

    assert search_path(sys.path, "/")[0] == str(tmp_path / "lib")


def test_relative_entry_that_was_not_used_means_the_current_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As an empty one does."""
    monkeypatch.setattr(sys, "path", ["", "unused", *sys.path, "", 5])

    assert search_path(sys.path, "/here")[:2] == ["/here", "/here/unused"]
    assert search_path(sys.path, "/here").count("/here") == 1


@pytest.mark.parametrize("package", [False, True])
def test_module_whose_directory_was_taken_off_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bool
) -> None:
    """Jobs look there as well, after all else."""
    name = f"search_path_{package}"
    _module(tmp_path / name, "__init__") if package else _module(tmp_path, name)
    with monkeypatch.context() as context:
        context.syspath_prepend(tmp_path)
        importlib.import_module(name)

    assert is_found(f"{name}.part")
    assert search_path(sys.path, "/")[-1] == str(tmp_path)


@pytest.mark.parametrize("name", ["search_path_alias", "json", "not_there.plugin"])
def test_module_from_a_file_of_another_name_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Nor is one that hides another."""
    _module(tmp_path, "plugin")
    spec = importlib.util.spec_from_file_location(name, tmp_path / "plugin.py")
    assert spec
    monkeypatch.setitem(sys.modules, name, importlib.util.module_from_spec(spec))

    assert not is_found(name)


def test_module_in_memory_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until one of its name is on the path."""
    module = types.ModuleType("search_path_memory")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    assert not is_found(module.__name__)


def test_module_of_a_finder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was installed so that it can be edited, say."""
    _module(tmp_path, "search_path_edited")
    path = tmp_path / "search_path_edited.py"

    class Finder:
        """Knows a single module."""

        @staticmethod
        def find_spec(name: str, *_: object) -> object:
            """Return where the module is."""
            if name != path.stem:
                return None
            return importlib.util.spec_from_file_location(name, path)

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    importlib.import_module(path.stem)

    assert is_found(path.stem)
    assert os.fspath(tmp_path) not in search_path(sys.path, "/")
