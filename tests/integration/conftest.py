"""Gives each client library our executor, on both schedulers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import SlurmExecutor
from tests.contract.gate import Gate
from tests.integration.clients import MakeExecutor

_POLL_INTERVAL = 0.5  #: seconds between two calls of squeue


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.cluster)])
def make_executor(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[MakeExecutor]:
    """Give a factory of executors; afterwards they are shut down."""
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    made: list[SlurmExecutor] = []

    def make(max_workers: int | None = None, **options: Any) -> SlurmExecutor:
        executor = SlurmExecutor(
            max_workers,
            directory=tmp_path / "runs",
            scheduler=request.param,
            poll_interval=_POLL_INTERVAL,
            **options,
        )
        made.append(executor)
        return executor

    yield make
    for executor in made:
        executor.shutdown(cancel_futures=True)


@pytest.fixture
def executor(make_executor: MakeExecutor) -> SlurmExecutor:
    """Give an executor as a user makes it: no limit on its jobs."""
    return make_executor()


@pytest.fixture
def gate(make_executor: MakeExecutor, tmp_path: Path) -> Iterator[Gate]:
    """Give a gate that opens at the end of the test, before executors shut down."""
    directory = tmp_path / "gate"
    directory.mkdir()
    gate = Gate(directory)
    yield gate
    gate.open()
