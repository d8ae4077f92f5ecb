"""What all tests share: a Slurm cluster on demand, and a check of what they leave."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.slurm import (
    ClusterOptions,
    SlurmCluster,
    StartCluster,
    processes,
    slurm_available,
)
from tests.slurm.options import chosen_root
from tests.waiting import assert_soon

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling

_LEFTOVER_TIMEOUT = 60  #: seconds
_JOBS_TIMEOUT = 60  #: seconds


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Share the tests out among the processes of pytest-xdist, where it is used."""
    from tests.distribution import make_scheduler

    return make_scheduler(config, log)


@pytest.hookimpl(trylast=True)  # after pytest's own order
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mix the tests of a process of pytest-xdist, as all the others do."""
    if hasattr(config, "workerinput"):
        from tests.distribution import mix

        items[:] = mix(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell why tests were skipped, each reason once: a whole tier may have the same."""
    skipped = terminalreporter.getreports("skipped")
    reasons = Counter(str(report.longrepr[2]) for report in skipped)  # file, line, why
    for reason, count in reasons.items():
        terminalreporter.write_line(
            f"SKIPPED [{count}] {reason.removeprefix('Skipped: ')}"
        )


def pytest_collection_finish() -> None:
    """Spare the garbage collector thousands of tests, which live to the end.

    Tests that collect garbage a dozen times took 25 s.
    """
    gc.freeze()


@pytest.fixture(scope="session")
def _commands_of_chosen_release() -> Iterator[None]:
    """Let all tests find the commands of the release that is to be tested."""
    root = chosen_root()
    with pytest.MonkeyPatch.context() as patch:
        if root is not None:
            patch.setenv("PATH", str(root / "slurm/bin"), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def needs_slurm(_commands_of_chosen_release: None) -> None:
    """Skip the test without Slurm; in CI that is a failure: see tests/skips.py."""
    reason = slurm_available()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def slurm_cluster(needs_slurm: None) -> Iterator[SlurmCluster]:
    """Share one Slurm of 4 nodes with 8 CPUs; leave it as you found it."""
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    """Let this process find the shared Slurm, by SLURM_CONF in its environment."""
    _enter(slurm_cluster, monkeypatch)
    return slurm_cluster


@pytest.fixture
def start_cluster(
    needs_slurm: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StartCluster]:
    """Start clusters of this test's own: `start_cluster(nodes=1, kill_wait=5)`.

    For tests that kill daemons or need other options; a start takes 0.2 s. This process
    finds the one that was started last.
    """
    with contextlib.ExitStack() as clusters:
        # Any: the options have types of their own, in ClusterOptions.
        def start(**options: Any) -> SlurmCluster:
            cluster = SlurmCluster(ClusterOptions(**options))
            clusters.enter_context(cluster)
            _enter(cluster, monkeypatch)
            return cluster

        yield start


def _enter(cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a cluster the one that Slurm's commands find, until the test ends."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def leaves_no_thread_or_process() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process behind."""
    threads_before = set(threading.enumerate())
    children_before = processes.children(os.getpid())

    def threads_left() -> set[threading.Thread]:
        return set(threading.enumerate()) - threads_before

    def children_left() -> list[str]:
        left = processes.children(os.getpid()) - children_before
        lines = [f"{pid} ({processes.command_line(pid)})" for pid in left]
        return [line for line in lines if not _belongs_to_multiprocessing(line)]

    yield
    assert_soon(
        lambda: not threads_left() and not children_left(),
        _LEFTOVER_TIMEOUT,
        lambda: f"the test left {threads_left()} and {children_left()}",
    )


@pytest.fixture(autouse=True)
def leaves_no_job(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a job in the shared cluster, and cancel the job."""
    yield
    if "slurm_cluster" not in request.fixturenames:
        return
    cluster: SlurmCluster = request.getfixturevalue("slurm_cluster")
    try:
        assert_soon(
            lambda: not cluster.open_jobs(),
            _JOBS_TIMEOUT,
            lambda: f"the test left jobs: {cluster.open_jobs()}",
        )
    finally:
        cluster.run("scancel", "--user", cluster.user)


def _belongs_to_multiprocessing(command: str) -> bool:
    """The standard library starts these once and keeps them as long as the program."""
    return "multiprocessing.resource_tracker" in command
