"""Runs each test of the contract on the oracle and on both of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.contract import executors
from tests.contract.executors import (
    KINDS,
    PATIENCE,
    MakeExecutor,
    MakeOurs,
    RunScript,
)
from tests.contract.gate import Gate

if TYPE_CHECKING:
    from tests.slurm import SlurmCluster


_ROOT = Path(__file__).parents[2]
_SHARED_WORKERS = 2


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark that lists the differences from ProcessPoolExecutor."""
    config.addinivalue_line(
        "markers",
        "oracle_differs(reason, hangs=False, before=None): ProcessPoolExecutor fails "
        "this test, and we differ on purpose",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the failures of the oracle that `oracle_differs` lists."""
    for item in items:
        mark = item.get_closest_marker("oracle_differs")
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if mark and parameters.get("kind") == "process_pool":
            _expect_difference(item, *mark.args, **mark.kwargs)


def _expect_difference(
    item: pytest.Item,
    reason: str,
    *,
    hangs: bool = False,
    before: tuple[int, int] | None = None,
) -> None:
    if before is None or sys.version_info < before:
        item.add_marker(pytest.mark.xfail(reason=reason, run=not hangs, strict=True))


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Name the executor under test: process_pool, local or slurm."""
    name = str(request.param)
    with pytest.MonkeyPatch.context() as monkeypatch:
        if name == "slurm":
            cluster: SlurmCluster = request.getfixturevalue("slurm_cluster")
            for variable, value in cluster.environment.items():
                monkeypatch.setenv(variable, value)
        yield name


@pytest.fixture
def make_executor(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[MakeExecutor]:
    """Give a factory of executors; afterwards they are shut down."""
    if kind == "slurm":  # so that the check for forgotten jobs applies
        request.getfixturevalue("slurm_cluster")
    made: list[weakref.ref[Executor]] = []

    def make(*args: Any, **options: Any) -> Executor:
        executor = executors.create(kind, tmp_path / "runs", *args, **options)
        made.append(weakref.ref(executor))
        return executor

    yield make
    for reference in made:
        _shut_down(reference())


@pytest.fixture
def make_ours(make_executor: MakeExecutor) -> MakeOurs:
    """Give the factory of executors with its narrower type."""
    return cast("MakeOurs", make_executor)


@pytest.fixture(scope="module")
def executor(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """Give an executor that the tests of a module share; they must not close it."""
    directory = tmp_path_factory.mktemp("shared")
    executor = executors.create(kind, directory, max_workers=_SHARED_WORKERS)
    # Its threads and workers are there before the check for what a test leaves.
    assert list(executor.map(abs, range(_SHARED_WORKERS)))
    yield executor
    _shut_down(executor)


def _shut_down(executor: Executor | None) -> None:
    if executor is None:  # dropped by its test
        return
    thread = threading.Thread(
        target=executor.shutdown, kwargs={"cancel_futures": True}, daemon=True
    )
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "shutdown hangs"


@pytest.fixture
def gate(make_executor: MakeExecutor, tmp_path: Path) -> Iterator[Gate]:
    """Give a gate that opens at the end of the test, before executors shut down."""
    directory = tmp_path / "gate"
    directory.mkdir()
    gate = Gate(directory)
    yield gate
    gate.open()


@pytest.fixture
def run_script(kind: str, tmp_path: Path) -> RunScript:
    """Give a function that runs a script with `make_executor`, `Path` and the rest.

    The script lies in `tmp_path`, is the working directory, and must end in time.
    """
    source = executors.module_for_scripts(kind, tmp_path / "runs")
    (tmp_path / "executors.py").write_text(source)
    search_path = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path)}

    def run(source: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(source))
        command = [sys.executable, "-X", "dev", str(path)]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                stdout, stderr = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGABRT)  # -X dev: prints all tracebacks
                stdout, stderr = process.communicate(timeout=PATIENCE)
                pytest.fail(f"the script does not end\n{stdout}\n{stderr}")
            finally:  # also what the script has forked
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return run
