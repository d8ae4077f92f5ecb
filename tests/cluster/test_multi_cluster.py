"""Sites with several clusters: questions about a job go to the cluster that has it."""

from __future__ import annotations

import pytest

from slurm_futures import JobCancelled
from slurm_futures.errors import JobState
from tests.cluster.conftest import MakeExecutor, Noticed, Shims
from tests.contract.calls import identity
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster, StartCluster
from tests.slurm.programs import accounting_available
from tests.waiting import assert_soon, job_id_of

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds


@pytest.fixture
def clusters(
    start_cluster: StartCluster, monkeypatch: pytest.MonkeyPatch
) -> tuple[SlurmCluster, SlurmCluster]:
    """Two clusters with one slurmdbd; the first one is that of this machine."""
    reason = accounting_available()
    if reason is not None:
        pytest.skip(reason)
    here = start_cluster(nodes=1, accounting=True)
    # The second one trusts the munge of the first one, and has its slurmdbd.
    shared = ("AuthInfo", "AccountingStorage")
    text = (here.directory / "etc/slurm.conf").read_text()
    there = start_cluster(
        nodes=1,
        extra_lines=[each for each in text.splitlines() if each.startswith(shared)],
    )
    for name, value in here.environment.items():
        monkeypatch.setenv(name, value)

    def are_known() -> bool:
        known = here.sacctmgr("show", "cluster", "format=cluster,controlhost")
        return all(f"{name_of(each)}|127." in known for each in (here, there))

    assert_soon(are_known, PATIENCE)
    return here, there


def name_of(cluster: SlurmCluster) -> str:
    """Return the ClusterName."""
    answer = cluster.run("scontrol", "show", "config")
    line = next(each for each in answer.splitlines() if "ClusterName" in each)
    return line.split("=")[1].strip()


def test_another_cluster(
    clusters: tuple[SlurmCluster, SlurmCluster],
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
) -> None:
    """Queries, cancels and post-mortems go to the cluster of the job."""
    here, there = clusters
    executor = make_executor(clusters=name_of(there), grace=1)
    numbers = executor.map(identity, range(9), timeout=PATIENCE)
    assert list(numbers) == list(range(9))
    futures = [executor.submit(gate.hold, name) for name in "abc"]
    home = make_executor(clusters=name_of(here)).submit(gate.hold, "home")
    gate.await_arrivals(*"abc", "home")
    assert_soon(lambda: futures[0].state is JobState.RUNNING, PATIENCE)

    assert len(there.open_jobs()) == 3
    there.run("scancel", job_id_of(futures[0]))
    error = noticed(futures[0], JobCancelled, within=20)
    assert error.node == "n1"
    assert futures[1].cancel()
    assert_soon(lambda: len(there.open_jobs()) == 1, PATIENCE)
    gate.open()
    assert futures[2].result(PATIENCE) == "c"
    assert home.result(PATIENCE) == "home"


def test_max_workers_on_another_cluster(
    clusters: tuple[SlurmCluster, SlurmCluster],
    make_executor: MakeExecutor,
    shims: Shims,
    gate: Gate,
) -> None:
    """The throttle of an array is raised where the array is."""
    there = name_of(clusters[1])
    shims.put("scontrol")
    executor = make_executor(clusters=there, max_workers=2)
    executor.submit(gate.hold, "first")
    gate.await_arrivals("first")
    results = executor.map(gate.hold, "abc", timeout=PATIENCE)
    gate.await_arrivals("a")

    gate.open("first")
    gate.await_arrivals("b")

    throttles = [each for each in shims.calls("scontrol") if "ArrayTask" in each]
    assert [each.split()[:3] for each in throttles] == [["-M", there, "update"]]
    assert throttles[0].endswith("ArrayTaskThrottle=2")
    gate.open()
    assert list(results) == list("abc")


def test_an_ambiguous_sbatch_on_another_cluster(
    clusters: tuple[SlurmCluster, SlurmCluster],
    make_executor: MakeExecutor,
    shims: Shims,
    gate: Gate,
) -> None:
    """The job is found where it is, and its call does not run a second time."""
    _, there = clusters
    shims.put(
        "sbatch",
        '"$real" "$@" >/dev/null\n'
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on "
        "send/recv operation' >&2\nexit 1",
    )
    executor = make_executor(clusters=name_of(there))

    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")

    assert there.open_jobs()[0].startswith(f"{job_id_of(future)} ")
    gate.open()
    assert future.result(PATIENCE) == "a"
    assert len(shims.calls("sbatch")) == 1


def test_a_cluster_that_is_down_harms_no_other(
    clusters: tuple[SlurmCluster, SlurmCluster],
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ends on the others are noticed, cancels reach them; it gets its own later."""
    here, there = clusters
    silent = name_of(there)
    away = make_executor(clusters=silent).submit(gate.hold, "away")
    executor = make_executor(clusters=name_of(here))
    cancelled = executor.submit(gate.hold, "a")
    held = executor.options(hold=True).submit(gate.hold, "b")
    gate.await_arrivals("away", "a")
    assert_soon(lambda: away.state is JobState.RUNNING, PATIENCE)
    assert_soon(lambda: held.state is JobState.PENDING, PATIENCE)
    there.stop_controller()

    here.run("scancel", job_id_of(held))
    noticed(held, JobCancelled, within=60)  # as only squeue tells
    assert not away.done()
    assert f"no answer from cluster {silent}" in caplog.text
    assert away.cancel()
    assert cancelled.cancel()
    assert_soon(lambda: not here.open_jobs(), PATIENCE)

    there.start_controller()
    assert_soon(lambda: not there.open_jobs(), PATIENCE)
