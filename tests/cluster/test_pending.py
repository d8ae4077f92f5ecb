"""Jobs that never start: a warning that says what to do, and an end on request."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from slurm_futures import PendingTimeout
from slurm_futures.errors import JobState
from tests.cluster.conftest import MakeExecutor, Noticed, Shims
from tests.contract.calls import identity
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster, StartCluster
from tests.waiting import assert_soon, job_id_of

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds


@pytest.mark.parametrize(
    ("options", "reason", "advice"),
    [
        ({"hold": True}, "JobHeldUser", "scontrol release"),
        ({"cpus_per_task": 64}, "PartitionConfig", "sinfo -Nel"),
        ({"nodelist": "n2"}, "ReqNodeNotAvail", "sinfo -R"),
    ],
    ids=["held", "too-many-cpus", "drained"],
)
def test_a_job_that_waits_for_ever_is_told_of_once(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    shims: Shims,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    reason: str,
    advice: str,
) -> None:
    """The warning has Slurm's reason and what to type; the call goes on waiting."""
    shims.put("squeue")
    cluster = start_cluster(nodes=2, cpus=2)
    cluster.run("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
    executor = make_executor(poll_interval=0.2)
    futures = [executor.options(**options).submit(identity, 1) for _ in range(2)]
    if reason == "PartitionConfig" and cluster.version == (24, 11):
        error = futures[0].exception(PATIENCE)
        assert "Requested node configuration is not available" in str(error)
        pytest.skip("Slurm 24.11 refuses a job with too many CPUs at once")

    def warnings() -> list[str]:
        return [
            each.getMessage() for each in caplog.records if each.levelname == "WARNING"
        ]

    assert_soon(warnings, PATIENCE)
    before = len(shims.calls("squeue"))
    assert_soon(lambda: len(shims.calls("squeue")) >= before + 3, PATIENCE)

    submissions = {job_id_of(future).split("_")[0] for future in futures}
    assert len(warnings()) == len(submissions)
    assert reason in warnings()[0]
    assert advice in warnings()[0]
    assert not any(future.done() for future in futures)
    executor.shutdown(cancel_futures=True)


def test_a_job_that_asks_for_too_much_time(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    shims: Shims,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Slurm calls the reason PartitionConfig and PartitionTimeLimit by turns."""
    shims.put("squeue", _flap("PartitionConfig", "PartitionTimeLimit"))
    line = "PartitionName=short Nodes=ALL MaxTime=60 State=UP"
    start_cluster(nodes=1, extra_lines=(line,))
    executor = make_executor(time="2-00:00:00", partition="short", poll_interval=0.1)
    executor.submit(identity, 1)

    def warnings() -> list[logging.LogRecord]:
        return [each for each in caplog.records if each.levelname == "WARNING"]

    assert_soon(warnings)
    before = len(shims.calls("squeue"))
    assert_soon(lambda: len(shims.calls("squeue")) >= before + 4)
    executor.shutdown(cancel_futures=True)
    assert len(warnings()) == 1
    assert 'for less, as with SlurmExecutor(time="...")' in warnings()[0].getMessage()


@pytest.mark.parametrize("pool", [False, True], ids=["jobs", "pool"])
def test_no_node_is_in_service(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    caplog: pytest.LogCaptureFixture,
    pool: bool,
) -> None:
    """One warning says so; the call waits until somebody resumes a node."""
    cluster = start_cluster(nodes=1)
    cluster.run("scontrol", "update", "node=n1", "state=drain", "reason=test")
    workers = {"max_workers": 1, "max_tasks_per_child": None}
    future = make_executor(**(workers if pool else {})).submit(identity, 1)

    assert_soon(lambda: "is out of service; 'sinfo -R' tells more" in caplog.text, 60)
    assert caplog.text.count("may do so for ever") == 1
    cluster.run("scontrol", "update", "node=n1", "state=resume")
    assert future.result(PATIENCE) == 1


@pytest.mark.parametrize("state", [[], ["State=SpecialExit"]], ids=["held", "special"])
def test_a_job_that_is_requeued_and_held(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
    state: list[str],
) -> None:
    """By hand or by RequeueExitHold: it waits until somebody releases it."""
    future = make_executor(requeue=True).submit(gate.hold, "a")
    gate.await_arrivals("a")

    slurm.run("scontrol", "requeuehold", *state, job_id_of(future))

    assert_soon(lambda: "waits, and may do so for ever" in caplog.text, PATIENCE)
    assert f"'scontrol release {future.job_id}' lets it go on" in caplog.text


def _flap(first: str, second: str) -> str:
    """Let squeue name one reason and the other by turns."""
    to, back = f"s/|{first}|/|{second}|/", f"s/|{second}|/|{first}|/"
    return (
        f'text="{to}"; [ $(($(wc -l <"$count") % 2)) = 1 ] && text="{back}"\n'
        '"$real" "$@" | sed "$text"'
    )


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("options", [{"begin": "now+60"}, {"requeue": True}])
def test_a_job_that_was_told_to_wait(
    make_executor: MakeExecutor,
    shims: Shims,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
) -> None:
    """Whoever asked for a time, or for a requeue, is not told of BeginTime."""
    shims.put("squeue", '"$real" "$@" | sed "s/|JobHeldUser|/|BeginTime|/"')
    executor = make_executor(poll_interval=0.1, hold=True, **options)
    executor.submit(identity, 1)

    assert_soon(lambda: len(shims.calls("squeue")) >= 4)
    executor.shutdown(cancel_futures=True)
    assert "waits, and may do so for ever" not in caplog.text


def test_pending_timeout(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """Only calls that have not started; their jobs are cancelled."""
    executor = make_executor(pending_timeout=2)
    running = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    pending = executor.options(hold=True).submit(identity, 1)

    error = noticed(pending, PendingTimeout, within=20)

    assert error.state is JobState.PENDING
    assert "still pending after 2 s" in str(error)
    assert "JobHeldUser" in str(error)
    assert not running.done()
    assert_soon(lambda: len(slurm.open_jobs()) == 1, PATIENCE)
    gate.open()
    assert running.result(PATIENCE) == "a"


@pytest.mark.usefixtures("slurm")
def test_pending_timeout_is_not_for_jobs_that_wait_for_their_own_array(
    make_executor: MakeExecutor, gate: Gate
) -> None:
    """max_workers=1: the second call waits for the first one, however long."""
    executor = make_executor(pending_timeout=1, max_workers=1)
    results = executor.map(gate.hold, "ab", timeout=PATIENCE)
    gate.await_arrivals("a")
    with pytest.raises(AssertionError):
        assert_soon(lambda: "b" in gate.arrivals(), 4)

    gate.open()

    assert list(results) == ["a", "b"]


@pytest.mark.usefixtures("slurm")
def test_pending_timeout_is_final(
    make_executor: MakeExecutor, noticed: Noticed
) -> None:
    """It is not tried again: the next job would wait as well."""
    executor = make_executor(pending_timeout=1, retries=3, hold=True)
    future = executor.submit(identity, 1)

    noticed(future, PendingTimeout, within=20)

    assert future.attempts == 1
