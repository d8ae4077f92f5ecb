"""What all tests share: a Slurm cluster on demand, and a check of what they leave."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

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

_LEFTOVER_TIMEOUT = 10  #: seconds
_JOBS_TIMEOUT = 30  #: seconds


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
    """Skip the test without Slurm, or fail it if SLURM_FUTURES_REQUIRE_CLUSTER=1."""
    reason = slurm_available()
    if reason is None:
        return
    if os.environ.get("SLURM_FUTURES_REQUIRE_CLUSTER") == "1":
        pytest.fail(reason, pytrace=False)
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
