"""Finds CPython's own tests of executors, and makes test cases of ours from them.

The suite is part of most Pythons; Debian has it in libpython3.11-testsuite.
"""

from __future__ import annotations

import concurrent.futures.process
import importlib
import importlib.util
import multiprocessing
import multiprocessing.context
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, _base
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from slurm_futures import RemoteTraceback, SlurmExecutor

_SUITE = "test.test_concurrent_futures"
_LONG = 1  #: seconds
_STRETCH = 4
_DIRECTORY = tempfile.TemporaryDirectory(prefix="slurm_futures-suite-")


class LocalSlurmExecutor(SlurmExecutor):
    """What the suite makes executors of: with its arguments, on this machine."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Run the calls here, and keep no files."""
        runs = Path(_DIRECTORY.name, "runs")
        super().__init__(
            *args, directory=runs, scheduler="local", keep="never", **options
        )

    # Any: as the one that it overrides, whose types the suite does not see.
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Let long calls take longer: the suite expects that they have not ended yet.

        A job starts later than a call in a waiting process, by seconds if all
        processors are busy.
        """
        if fn is time.sleep and args[0] >= _LONG:
            args = (args[0] * _STRETCH,)
        return super().submit(fn, *args, **kwargs)


def prepare() -> None:
    """Make the suite importable, here and in jobs.

    Raises:
        ModuleNotFoundError: neither this Python nor Debian's of this version has it.
    """
    if importlib.util.find_spec(_SUITE):
        return
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    source = Path("/usr/lib", version, "test", "test_concurrent_futures.py")
    if not source.exists():
        raise ModuleNotFoundError(f"neither {_SUITE} nor {source}")
    # A package `test` that has this module too; jobs find it by our `sys.path`.
    package = Path(_DIRECTORY.name, "debian", "test")
    package.mkdir(parents=True)
    (package / source.name).symlink_to(source)
    (package / "__init__.py").write_text(
        "from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "test"]:
        del sys.modules[name]
    sys.path.insert(0, str(package.parent))
    importlib.invalidate_caches()


def adapt(
    module_name: str, mixin_name: str, left_out: Mapping[str, str]
) -> type[unittest.TestCase]:
    """Make a test case from a mixin of the suite, without the tests left out."""
    module, util = _part(module_name), _part("util")
    mixin = getattr(module, mixin_name)
    bases: list[type[Any]] = [_Adapter, mixin]
    if not issubclass(mixin, util.ExecutorMixin):
        bases.append(util.ExecutorMixin)
    members: dict[str, Any] = {"module": module}
    for name in left_out.keys() & set(dir(mixin)):
        members[name] = unittest.skip(left_out[name])(getattr(mixin, name))
    return type(mixin_name, (*bases, util.BaseTestCase), members)


def _part(name: str) -> ModuleType:
    """Import a part of the suite, which before Python 3.12 is a single module."""
    suite = importlib.import_module(_SUITE)
    if hasattr(suite, "__path__"):
        return importlib.import_module(f"{_SUITE}.{name}")
    return suite


class _Adapter:
    """Goes before the suite's own ExecutorMixin and puts ours in the pool's place."""

    executor_type = LocalSlurmExecutor
    module: ModuleType
    # Any: unittest.TestCase has it, which comes later in the order of bases.
    enterContext: Callable[[Any], Any]  # noqa: N815  (unittest's name)

    def setUp(self) -> None:
        """Rebind what names ProcessPoolExecutor's own classes."""
        self._rebind(concurrent.futures.process, "_RemoteTraceback", RemoteTraceback)
        self._rebind(self.module, "BrokenProcessPool", BrokenExecutor)
        self._rebind(concurrent.futures, "wait", _wait_longer)
        run = getattr(self.module, "assert_python_ok", None)
        self._rebind(self.module, "assert_python_ok", _with_ours(run))
        super().setUp()  # type: ignore[misc]  # of unittest.TestCase

    def _rebind(self, module: ModuleType, name: str, value: object) -> None:
        if hasattr(module, name):
            self.enterContext(mock.patch.object(module, name, value))

    def get_context(self) -> multiprocessing.context.SpawnContext:
        """Give what some tests hand over as mp_context."""
        return multiprocessing.get_context("spawn")


def _wait_longer(
    futures: Any, timeout: float | None = None, **options: Any
) -> _base.DoneAndNotDoneFutures[Any]:
    """Wait as much longer as the long calls take."""
    if timeout is not None and timeout >= _LONG:
        timeout *= _STRETCH
    return _base.wait(futures, timeout, **options)


def _with_ours(run: Callable[..., Any] | None) -> Callable[..., Any]:
    """Let scripts of the suite find our executor in `concurrent.futures`."""
    prelude = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import concurrent.futures\n"
        f"from {__name__} import LocalSlurmExecutor\n"
        "concurrent.futures.LocalSlurmExecutor = LocalSlurmExecutor\n"
    )

    def assert_python_ok(option: str, script: str) -> Any:
        assert run is not None
        return run(option, prelude + script)

    return assert_python_ok
