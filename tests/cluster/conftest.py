"""What the fault tests share: quick executors, a gate, commands that lie, a clock."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest

from slurm_futures import SlurmExecutor
from slurm_futures.schedulers import slurm
from tests.contract.gate import Gate

Error = TypeVar("Error", bound=BaseException)
MakeExecutor = Callable[..., SlurmExecutor]
Noticed = Callable[..., Any]

_PATIENCE = 60  #: seconds in which each future must have an end, whatever it is


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A door that keeps calls running; opened at the end for those still inside."""
    directory = tmp_path / "gate"
    directory.mkdir()
    gate = Gate(directory)
    yield gate
    gate.open()


@pytest.fixture
def make_executor(tmp_path: Path) -> Iterator[MakeExecutor]:
    """Make executors that ask often and wait briefly; they end with the test."""
    executors: list[SlurmExecutor] = []

    def make(**options: Any) -> SlurmExecutor:
        quick = {"directory": tmp_path / "runs", "poll_interval": 0.5, "grace": 3}
        executors.append(SlurmExecutor(**{**quick, **options}))
        return executors[-1]

    yield make
    for executor in executors:
        executor.terminate_workers()
    for executor in executors:
        executor.shutdown()


@pytest.fixture
def noticed(request: pytest.FixtureRequest) -> Noticed:
    """Wait for the error of a future; see that its class is right and it comes soon.

    With SLURM_FUTURES_FAULT_TIMES=FILE the times are written down, for the table of
    faults in the README.
    """
    record = os.environ.get("SLURM_FUTURES_FAULT_TIMES")

    def wait(future: Future[Any], cls: type[Error], within: float) -> Error:
        began = time.monotonic()
        error = future.exception(_PATIENCE)
        seconds = time.monotonic() - began
        if record is not None:
            with Path(record).open("a") as file:
                name = type(error).__name__
                file.write(f"{seconds:6.2f} s  {name}  {request.node.name}\n{error}\n")

        assert type(error) is cls, repr(error)
        assert seconds <= within
        return error

    return wait


@pytest.fixture(autouse=True)
def _forget_limits() -> None:
    """A cluster may begin in the directory of an earlier one with other limits."""
    slurm._limits.clear()
    slurm._clusters.clear()


class Shims:
    """Commands that come before Slurm's own on the PATH, and do what a test wants.

    `real` in their text is the command that they stand for, and `count` the file to
    which each call adds a line.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        directory.mkdir()
        self._path = os.environ["PATH"]
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{self._path}")

    def put(self, command: str, text: str = 'exec "$real" "$@"') -> None:
        """Let a command do this: lines of bash."""
        real = next(
            path
            for path in (Path(each) / command for each in self._path.split(os.pathsep))
            if path.exists()
        )
        shim = self._directory / command
        shim.write_text(
            f"#!/bin/bash\nreal={real}\ncount={self._log(command)}\n"
            f'echo "$*" >>"$count"\n{text}\n'
        )
        shim.chmod(stat.S_IRWXU)

    def remove(self, command: str) -> None:
        """Let the real command be found again."""
        self.put(command)

    def calls(self, command: str) -> list[str]:
        """The command lines so far, without the command."""
        log = self._log(command)
        return log.read_text().splitlines() if log.exists() else []

    def _log(self, command: str) -> Path:
        return self._directory / f"{command}.calls"


@pytest.fixture
def shims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shims:
    """Commands that lie, first on the PATH."""
    return Shims(tmp_path / "shims", monkeypatch)
