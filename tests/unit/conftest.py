"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.fakes import FakeJobs, FakeScheduler, WatchedPoller, make_jobs

#: Lets a command be found first: name and lines of a shell script.
AddCommand = Callable[[str, str], Path]


@pytest.fixture
def scheduler() -> FakeScheduler:
    """Give a scheduler that accepts everything and never starts a job."""
    return FakeScheduler()


@pytest.fixture
def jobs(tmp_path: Path, scheduler: FakeScheduler) -> FakeJobs:
    """Give an array of two jobs that squeue shows as running."""
    return make_jobs(tmp_path, scheduler)


@pytest.fixture
def watched(scheduler: FakeScheduler) -> WatchedPoller:
    """Give a poller of the scheduler, which watches nothing yet."""
    return WatchedPoller(scheduler)


@pytest.fixture
def add_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AddCommand:
    """Give a function that puts a command into a directory that alone is on PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))

    def add(name: str, lines: str) -> Path:
        path = directory / name
        path.write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{lines}\n")
        path.chmod(0o755)
        return path

    return add
