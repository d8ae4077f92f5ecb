"""Slurm's commands lie, refuse, or are misled: each call runs once or says why not."""

from __future__ import annotations

import pytest

from slurm_futures import SubmitError
from tests.cluster.conftest import MakeExecutor, Noticed, Shims
from tests.contract.calls import identity
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster, StartCluster
from tests.slurm.programs import accounting_available
from tests.waiting import assert_soon, job_id_of

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds

#: What users and sites set, and what would mislead Slurm's commands.
_HOSTILE = {
    "SQUEUE_PARTITION": "nope",
    "SQUEUE_STATES": "SUSPENDED",
    "SQUEUE_FORMAT": "%j",
    "SQUEUE_ACCOUNT": "nope",
    "SQUEUE_NAMES": "nope",
    "SQUEUE_ARRAY": "1",
    "SLURM_CLUSTERS": "nope",
    "SCANCEL_STATE": "SUSPENDED",
    "SCANCEL_NAME": "nope",
    "SCANCEL_INTERACTIVE": "1",
    "SBATCH_WAIT": "1",
    "SBATCH_ARRAY_INX": "1-3",
    "SBATCH_EXPORT": "NONE",
    "SBATCH_OUTPUT": "/nope/%j",
    "SBATCH_JOB_NAME": "nope",
    "SBATCH_REQUEUE": "1",
    "SBATCH_DEBUG": "3",
    "SLURM_BITSTR_LEN": "9",
    "SLURM_ARRAY_TASK_ID": "77",
    "SLURM_JOB_ID": "77",
    "SLURM_RESTART_COUNT": "3",
    "SLURM_MEM_PER_CPU": "1",
    "SLURM_EXIT_ERROR": "0",
    "SLURM_TIME_FORMAT": "relative",
}


def cpus_of_job() -> str | None:
    """Tell what Slurm has told the job."""
    import os

    return os.environ.get("SLURM_ARRAY_TASK_ID")


# What the commands print.


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    "text",
    [
        'echo "Welcome to Stampede3, 4211 jobs are waiting"; exec "$real" "$@"',
        'echo "4211"; echo "--> Verifying valid submit host (login2)...OK"; '
        'exec "$real" "$@"',
        'echo "sbatch: Your account has 17 hours left" >&2; exec "$real" "$@"',
        'id=$("$real" "$@"); echo "Submitted batch job $id"',
        'id=$("$real" "$@"); echo "$id"; echo; echo "-- have a nice day --"',
    ],
    ids=["banner", "number-first", "stderr", "not-parsable", "trailing-words"],
)
def test_banners_around_the_job_id(
    make_executor: MakeExecutor, shims: Shims, text: str
) -> None:
    """The id is found among what a site adds to sbatch."""
    shims.put("sbatch", text)
    executor = make_executor()

    assert list(executor.map(identity, "ab", timeout=PATIENCE)) == ["a", "b"]
    assert len(shims.calls("sbatch")) == 1


@pytest.mark.usefixtures("slurm")
def test_warnings_and_unknown_words_of_squeue(
    make_executor: MakeExecutor, shims: Shims, gate: Gate
) -> None:
    """Lines that make no sense are passed over, unknown states count as alive."""
    shims.put(
        "squeue",
        'echo "squeue: Maintenance on Monday" >&2\n'
        'echo "=== Maintenance | on | Monday ==="\n'
        '"$real" "$@" | sed "s/|R|/|XX|/"\necho "|||"; echo "12|garbled|R|x|/"',
    )
    future = make_executor(grace=0.5).submit(gate.hold, "a")
    gate.await_arrivals("a")
    before = len(shims.calls("squeue"))
    assert_soon(lambda: len(shims.calls("squeue")) >= before + 4, PATIENCE)

    assert not future.done()
    gate.open()
    assert future.result(PATIENCE) == "a"


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    "text",
    [
        "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1",
        "echo 'squeue: error: Invalid user: root' >&2; exit 0",
        '"$real" "$@" | head -c 7; kill -9 $$',
        "exit 127",
    ],
    ids=["fails", "says-error-with-code-0", "half-an-answer", "missing"],
)
def test_a_squeue_that_fails_is_no_news(
    make_executor: MakeExecutor, shims: Shims, gate: Gate, text: str
) -> None:
    """No future fails for it, and values arrive."""
    shims.put("squeue", text)
    future = make_executor(poll_interval=0.1, grace=0.1).submit(gate.hold, "a")
    gate.await_arrivals("a")
    assert_soon(lambda: len(shims.calls("squeue")) >= 3, PATIENCE)

    assert not future.done()
    gate.open()
    assert future.result(PATIENCE) == "a"


def test_a_squeue_that_is_behind(
    slurm: SlurmCluster, make_executor: MakeExecutor, shims: Shims, gate: Gate
) -> None:
    """It answers from a cache of the site, which does not know the jobs yet."""
    shims.put("squeue", "exit 0")
    executor = make_executor(poll_interval=0.1, grace=0.1)
    running = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    pending = executor.options(hold=True).map(identity, range(3))
    assert_soon(lambda: len(shims.calls("squeue")) >= 20, PATIENCE)
    assert not running.done()

    shims.remove("squeue")
    (held,) = {job.split("_")[0] for job in slurm.open_jobs() if "PENDING" in job}
    slurm.run("scontrol", "release", held)
    gate.open()

    assert running.result(PATIENCE) == "a"
    assert list(pending) == [0, 1, 2]


def test_a_scancel_that_fails_is_repeated(
    slurm: SlurmCluster, make_executor: MakeExecutor, shims: Shims, gate: Gate
) -> None:
    """The job ends all the same."""
    shims.put("scancel", '[ $(wc -l <"$count") = 1 ] && exit 140\nexec "$real" "$@"')
    future = make_executor().submit(gate.hold, "a")
    gate.await_arrivals("a")

    assert future.cancel()

    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)
    assert shims.calls("scancel") == [job_id_of(future)] * 2


# Refusals.


@pytest.mark.usefixtures("slurm")
def test_a_partition_that_does_not_exist(
    make_executor: MakeExecutor, noticed: Noticed
) -> None:
    """SubmitError at once, with Slurm's words and with what to type."""
    executor = make_executor()
    future = executor.options(partition="nope").submit(identity, 1)

    error = noticed(future, SubmitError, within=20)

    assert "nvalid partition" in str(error)
    assert 'SlurmExecutor(partition="...")' in str(error)
    assert executor.submit(identity, 2).result(PATIENCE) == 2


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    "words",
    [
        "Rate limit exceeded, please retry later",
        "Slurm temporarily unable to accept job, sleeping and retrying\n"
        "sbatch: error: Batch job submission failed: Resource temporarily unavailable",
        "Batch job submission failed: Slurm job queue full",
        "Batch job submission failed: I/O error writing script/environment to file",
    ],
    ids=["rate", "full-22.05", "full-26.05", "disk-of-slurmctld"],
)
def test_a_refusal_that_passes(
    make_executor: MakeExecutor,
    shims: Shims,
    caplog: pytest.LogCaptureFixture,
    words: str,
) -> None:
    """The call waits and says so; then it runs."""
    shims.put(
        "sbatch",
        f"if [ $(wc -l <\"$count\") = 1 ]; then echo 'sbatch: error: {words}' >&2; "
        'exit 1; fi\nexec "$real" "$@"',
    )

    future = make_executor().submit(identity, 5)

    assert future.result(PATIENCE) == 5
    assert len(shims.calls("sbatch")) == 2
    assert "is tried again in" in caplog.text


@pytest.mark.usefixtures("slurm")
def test_sbatch_that_vanishes_from_the_path(
    make_executor: MakeExecutor, shims: Shims, noticed: Noticed
) -> None:
    """A program that cannot be started is an error in the system's words."""
    executor = make_executor()
    shims.put("sbatch", "exit 127")

    noticed(executor.submit(identity, 5), SubmitError, within=20)


# Limits.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_array_size": 9}, 4),
        ({"max_array_tasks": 4}, 8),
    ],
    ids=["MaxArraySize", "max_array_tasks"],
)
def test_arrays_are_split(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    shims: Shims,
    options: dict[str, int],
    expected: int,
) -> None:
    """A long map becomes arrays that fit; the results are in order."""
    shims.put("sbatch")
    start_cluster(nodes=1, cpus=16, **options)

    results = list(make_executor().map(identity, range(32), timeout=PATIENCE))

    assert results == list(range(32))
    assert len(shims.calls("sbatch")) == expected


def test_more_calls_than_max_job_count(
    start_cluster: StartCluster, make_executor: MakeExecutor
) -> None:
    """Slurm has room for 20 jobs: arrays are smaller than that, and all calls run."""
    start_cluster(nodes=1, max_job_count=20, min_job_age=2)

    results = list(make_executor().map(identity, range(50), timeout=200))

    assert results == list(range(50))


def test_more_calls_than_the_quota(
    start_cluster: StartCluster,
    make_executor: MakeExecutor,
    caplog: pytest.LogCaptureFixture,
    shims: Shims,
) -> None:
    """QOS MaxSubmitJobsPerUser=8: smaller arrays, a line in the log, no failure."""
    reason = accounting_available()
    if reason is not None:
        pytest.skip(reason)
    shims.put("sbatch")
    cluster = start_cluster(nodes=1, accounting=True, accounting_enforce="limits,qos")
    cluster.sacctmgr("add", "qos", "tight", "MaxSubmitJobsPerUser=8")
    cluster.sacctmgr("modify", "user", cluster.user, "set", "qos+=tight")

    executor = make_executor(qos="tight")
    results = list(executor.map(identity, range(24), timeout=90))

    assert results == list(range(24))
    assert "QOSMaxSubmitJobPerUserLimit" in caplog.text
    assert len(shims.calls("sbatch")) < 25
    refused = executor.options(qos="nope").submit(identity, 1)
    assert "nvalid qos" in str(refused.exception(PATIENCE))


# The environment.


def test_a_hostile_environment(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    monkeypatch: pytest.MonkeyPatch,
    gate: Gate,
) -> None:
    """Everything works as without it: arrays, plain jobs, cancel."""
    for name, value in _HOSTILE.items():
        monkeypatch.setenv(name, value)
    executor = make_executor()

    assert list(executor.map(identity, "abc", timeout=PATIENCE)) == list("abc")
    assert executor.submit(cpus_of_job).result(PATIENCE) is None
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    assert future.cancel()
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)


def test_a_hidden_partition(
    start_cluster: StartCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """Its jobs are seen all the same."""
    line = "PartitionName=secret Nodes=ALL Hidden=YES State=UP"
    start_cluster(nodes=1, extra_lines=(line,))
    future = make_executor(partition="secret", grace=0.5).submit(gate.hold, "a")
    gate.await_arrivals("a")

    with pytest.raises(TimeoutError):
        future.result(4)
    gate.open()
    assert future.result(PATIENCE) == "a"


#: What job_submit plugins say, and sbatch after them.
_NO_ARRAYS = [
    "sbatch: error: Job arrays are not allowed here, see the user guide",
    "sbatch: error: Batch job submission failed: Unspecified error",
]


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("words", _NO_ARRAYS, ids=["told", "untold"])
@pytest.mark.parametrize("tasks", [1, None], ids=["jobs", "pool"])
def test_a_site_that_refuses_job_arrays(
    make_executor: MakeExecutor,
    shims: Shims,
    caplog: pytest.LogCaptureFixture,
    words: str,
    tasks: int | None,
) -> None:
    """Its jobs are sent one by one, with one warning; max_workers holds."""
    text = f'[[ "$*" != *--array* ]] || {{ echo "{words}" >&2; exit 1; }}'
    shims.put("sbatch", f'{text}\nexec "$real" "$@"')
    executor = make_executor(max_workers=4, max_tasks_per_child=tasks)

    results = list(executor.map(identity, range(12), timeout=PATIENCE))

    assert results == list(range(12))
    assert len([each for each in shims.calls("sbatch") if "--array" in each]) == 1
    said = [each for each in caplog.messages if "takes no job arrays" in each]
    assert len(said) == 1


@pytest.mark.usefixtures("slurm")
def test_a_refusal_without_a_reason_is_not_tried_for_each_call(
    make_executor: MakeExecutor, shims: Shims
) -> None:
    """A single job shows that it was not for the array."""
    shims.put("sbatch", f'echo "{_NO_ARRAYS[1]}" >&2; exit 1')
    executor = make_executor()

    futures = [executor.submit(identity, number) for number in range(9)]

    for future in futures:
        assert "Unspecified error" in str(future.exception(PATIENCE))
    assert len(shims.calls("sbatch")) < 9
