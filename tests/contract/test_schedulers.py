"""What every scheduler does: LocalScheduler, and SlurmScheduler with a real Slurm."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_futures.errors import JobState, Refusal, SchedulerError, SubmitError
from slurm_futures.schedulers.base import JobId, Scheduler
from slurm_futures.schedulers.local.scheduler import LocalScheduler
from slurm_futures.schedulers.slurm import SlurmScheduler
from tests.jobs import TIMEOUT, WAIT, Jobs, States, read_when_there, variables
from tests.slurm.processes import command_line
from tests.waiting import assert_soon

if TYPE_CHECKING:
    from collections.abc import Iterator


_SCHEDULERS = ["local", pytest.param("slurm", marks=pytest.mark.cluster)]

#: An array of this shape leaves no CPU free, here or in the cluster of the tests.
NODES, NODE_CPUS = 4, 8

PENDING, RUNNING, COMPLETED = JobState.PENDING, JobState.RUNNING, JobState.COMPLETED
FAILED, CANCELLED = JobState.FAILED, JobState.CANCELLED


@pytest.fixture(params=_SCHEDULERS)
def scheduler(request: pytest.FixtureRequest) -> Scheduler:
    """Give one scheduler after the other."""
    if request.param == "local":
        return LocalScheduler(4)
    request.getfixturevalue("slurm")  # finds its commands from here on
    return SlurmScheduler()


@pytest.fixture
def jobs(scheduler: Scheduler, tmp_path: Path) -> Iterator[Jobs]:
    """Give a place for scripts; in the end, nothing of them runs any more."""
    jobs = Jobs(scheduler, tmp_path)
    yield jobs
    scheduler.cancel(jobs.submitted)
    jobs.wait_until_ended(*jobs.submitted)


def block_all_cpus(jobs: Jobs) -> None:
    """Let what is submitted from now on wait."""
    blocker = jobs.submit(
        WAIT, name="blocker", array_size=NODES, options={"cpus_per_task": NODE_CPUS}
    )
    assert_soon(lambda: jobs.state(blocker.task(0)) is RUNNING, TIMEOUT)


# Submission, states, endings


def test_a_job_is_listed_from_its_submission_on(jobs: Jobs) -> None:
    """A snapshot that is asked for after the submission shows the job."""
    job = jobs.submit(WAIT)

    assert jobs.state(job) in {PENDING, JobState.CONFIGURING, RUNNING}


def test_a_job_runs_then_completes(jobs: Jobs) -> None:
    """The states of a job that succeeds."""
    job = jobs.submit(WAIT)
    jobs.wait_for(job, {None: RUNNING})
    jobs.open_gate()

    jobs.wait_for(job, {None: COMPLETED})


@pytest.mark.parametrize(
    ("script", "state", "exit_code", "signal"),
    [
        pytest.param("exit 0", COMPLETED, 0, None, id="success"),
        pytest.param("exit 3", FAILED, 3, None, id="exit code"),
        pytest.param("kill -s KILL $$", FAILED, 0, 9, id="signal"),
        pytest.param("sh -c 'kill -s KILL $$'", FAILED, 137, None, id="child killed"),
    ],
)
def test_explain_knows_how_a_job_ended(
    jobs: Jobs, script: str, state: JobState, exit_code: int, signal: int | None
) -> None:
    """Exit code and signal are those of the script."""
    job = jobs.submit(script)
    jobs.wait_until_ended(job)
    ending = jobs.scheduler.explain([job])[job]

    assert (ending.state, ending.exit_code, ending.signal) == (state, exit_code, signal)
    assert ending.node


def test_explain_knows_each_array_task(jobs: Jobs) -> None:
    """Endings of several jobs come with one call, those asked for and no others."""
    array = jobs.submit("exit $SLURM_ARRAY_TASK_ID", array_size=3)
    jobs.wait_for(array, {0: COMPLETED, 1: FAILED, 2: FAILED})
    endings = jobs.scheduler.explain([array.task(0), array.task(2)])

    codes = {job: ending.exit_code for job, ending in endings.items()}
    assert codes == {array.task(0): 0, array.task(2): 2}


def test_explain_passes_over_what_it_does_not_know(scheduler: Scheduler) -> None:
    """Nothing is known of a job that never was."""
    assert scheduler.explain([JobId(4_000_000), JobId(4_000_000, 1)]) == {}


def test_a_snapshot_knows_when_it_was_asked_for(scheduler: Scheduler) -> None:
    """What was submitted before `started_at` must be in it."""
    before = time.monotonic()
    snapshot = scheduler.query()

    assert before <= snapshot.started_at <= time.monotonic()


def test_pending_tasks_share_a_row(jobs: Jobs) -> None:
    """An answer does not grow with the number of tasks that wait."""
    array = jobs.submit(WAIT, array_size=1000, throttle=1)
    jobs.wait_for(
        array, {index: PENDING if index else RUNNING for index in range(1000)}
    )

    assert len(jobs.rows(array)) == 2


def test_rows_say_where_a_job_works(jobs: Jobs) -> None:
    """A job is recognised by its directory."""
    array = jobs.submit(WAIT, array_size=2, throttle=1)
    jobs.wait_for(array, {0: RUNNING, 1: PENDING})
    directories = {row.directory for row in jobs.rows(array)}

    assert directories == {str(jobs.directory())}


def test_limits_allow_something(scheduler: Scheduler) -> None:
    """At least the defaults of Slurm."""
    assert scheduler.limits().array_size >= 1001


def test_a_scheduler_has_an_identity(scheduler: Scheduler) -> None:
    """It is a key: the same each time."""
    assert len({scheduler.identity, scheduler.identity}) == 1
    assert scheduler.poll_interval > 0


# What a job finds


def test_variables_of_a_job(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the client, and what Slurm says of the job."""
    here = jobs.directory("here")
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLOUR", "dark blue, größer")
    job = jobs.submit("env -0 > variables", options={"cpus_per_task": 2, "ntasks": 1})
    jobs.wait_for(job, {None: COMPLETED})
    found = variables(jobs.directory() / "variables")

    expected = {
        "COLOUR": "dark blue, größer",
        "SLURM_JOB_ID": str(job),
        "SLURM_JOBID": str(job),
        "SLURM_JOB_NAME": "contract",
        "SLURM_SUBMIT_DIR": str(here),
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_CPUS_ON_NODE": "2",
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["SLURMD_NODENAME"] == found["SLURM_JOB_NODELIST"]
    assert {"SLURM_SUBMIT_HOST", "SLURM_CLUSTER_NAME"} <= found.keys()
    assert not {name for name in found if "ARRAY" in name}
    assert "SLURM_RESTART_COUNT" not in found


def test_variables_of_an_array_task(jobs: Jobs) -> None:
    """Each task has its index, and a number of its own."""
    array = jobs.submit("env -0 > variables-$SLURM_ARRAY_TASK_ID", array_size=3)
    jobs.wait_for(array, dict.fromkeys(range(3), COMPLETED))
    found = [variables(jobs.directory() / f"variables-{index}") for index in range(3)]

    expected = {
        "SLURM_ARRAY_JOB_ID": str(array),
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_ARRAY_TASK_COUNT": "3",
        "SLURM_ARRAY_TASK_MIN": "0",
        "SLURM_ARRAY_TASK_MAX": "2",
        "SLURM_ARRAY_TASK_STEP": "1",
    }
    assert {name: found[1].get(name) for name in expected} == expected
    assert len({task["SLURM_JOB_ID"] for task in found}) == 3


def test_variables_of_a_job_around_do_not_get_in(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that is itself a job does not pass its own SLURM_* on."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1000")
    job = jobs.submit("env -0 > variables")
    jobs.wait_for(job, {None: COMPLETED})
    found = variables(jobs.directory() / "variables")

    stale = {"SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURM_MEM_PER_CPU"}
    assert not stale & found.keys()


def test_a_job_starts_in_its_directory_with_its_arguments(jobs: Jobs) -> None:
    """Arguments arrive as they are; there is nothing to read."""
    arguments = ("a b", "", "$HOME", "it's", "*")
    job = jobs.submit('printf "%s|" "$@" > out; pwd >> out; cat >> out', *arguments)
    jobs.wait_for(job, {None: COMPLETED})

    expected = f"a b||$HOME|it's|*|{jobs.directory()}\n"
    assert (jobs.directory() / "out").read_text() == expected


def test_the_log_takes_both_outputs_and_is_appended_to(
    jobs: Jobs, tmp_path: Path
) -> None:
    """What was in the file before stays there."""
    log = tmp_path / "log"
    log.write_text("before\n")
    job = jobs.submit("echo out; echo err >&2", log="../log")
    jobs.wait_for(job, {None: COMPLETED})

    assert log.read_text() == "before\nout\nerr\n"


def test_the_log_of_a_job_has_its_id_in_its_name(jobs: Jobs) -> None:
    """`%j` is the id of the job, and `%%` a percent sign."""
    job = jobs.submit("echo here", log="log-%j-100%%")
    jobs.wait_for(job, {None: COMPLETED})

    assert (jobs.directory() / f"log-{job}-100%").read_text() == "here\n"


def test_the_logs_of_array_tasks_have_array_and_index_in_their_names(
    jobs: Jobs,
) -> None:
    """`%A_%a` is the id of an array task."""
    array = jobs.submit("echo $SLURM_ARRAY_TASK_ID", array_size=2, log="%A_%a.txt")
    jobs.wait_for(array, {0: COMPLETED, 1: COMPLETED})
    logs = [jobs.directory() / f"{array.task(index)}.txt" for index in range(2)]

    assert [log.read_text() for log in logs] == ["0\n", "1\n"]


@pytest.mark.parametrize(
    "name",
    [
        "two words",
        "it's",
        'say "so"',
        "100% %A %j",
        "$(touch evil)",
        "`touch evil`;touch evil",
        "größer 数",
        "a|b",
        "#!-x",
    ],
)
def test_a_directory_may_have_any_name(jobs: Jobs, name: str) -> None:
    """Paths are words, never parts of a shell command."""
    array = jobs.submit(
        "echo $SLURM_ARRAY_TASK_ID; pwd > where", name=name, array_size=1, log="log-%a"
    )
    jobs.wait_for(array, {0: COMPLETED})
    directory = jobs.directory(name)

    assert (directory / "log-0").read_text() == "0\n"
    assert (directory / "where").read_text() == f"{directory}\n"
    assert {row.directory for row in jobs.rows(array)} == {str(directory)}


# Refusals


@pytest.mark.parametrize(
    ("option", "value"), [("time", "banana"), ("cpus_per_task", "many")]
)
def test_a_bad_option_is_refused(jobs: Jobs, option: str, value: str) -> None:
    """Nothing was submitted."""
    before = jobs.scheduler.query().jobs.keys()

    with pytest.raises(SubmitError) as caught:
        jobs.submit("true", options={option: value})
    assert caught.value.refusal is Refusal.PERMANENT
    assert jobs.scheduler.query().jobs.keys() == before


# Cancels


def test_cancel_of_a_running_job(jobs: Jobs) -> None:
    """It ends as cancelled; its own exit code does not matter."""
    job = jobs.submit("trap 'exit 0' TERM; " + WAIT)
    jobs.wait_for(job, {None: RUNNING})
    jobs.scheduler.cancel([job])

    jobs.wait_for(job, {None: CANCELLED})
    assert jobs.scheduler.explain([job])[job].state is CANCELLED


def test_cancel_is_written_into_the_log(jobs: Jobs) -> None:
    """The line of slurmstepd."""
    job = jobs.submit("echo here; " + WAIT)
    log = jobs.directory() / "log"
    read_when_there(log)
    jobs.scheduler.cancel([job])
    jobs.wait_for(job, {None: CANCELLED})

    assert f"error: *** JOB {job} ON " in log.read_text()
    assert " CANCELLED AT " in log.read_text()


def test_cancel_of_a_pending_job(jobs: Jobs) -> None:
    """It never starts."""
    block_all_cpus(jobs)
    job = jobs.submit("touch started")
    jobs.scheduler.cancel([job])
    jobs.wait_for(job, {None: CANCELLED})
    jobs.open_gate("blocker")
    jobs.wait_until_ended(*jobs.submitted)

    assert not (jobs.directory() / "started").exists()


def test_cancel_of_a_pending_array_task(jobs: Jobs) -> None:
    """No record is left of it; the others run."""
    array = jobs.submit(
        f"touch started-$SLURM_ARRAY_TASK_ID; {WAIT}", array_size=3, throttle=1
    )
    jobs.wait_for(array, {0: RUNNING, 1: PENDING, 2: PENDING})
    jobs.scheduler.cancel([array.task(1)])
    jobs.wait_for(array, {0: RUNNING, 2: PENDING})
    jobs.open_gate()
    jobs.wait_for(array, {0: COMPLETED, 2: COMPLETED})

    assert not (jobs.directory() / "started-1").exists()


@pytest.mark.parametrize("step", [2, 3])
def test_what_is_left_of_a_pending_array_is_listed(jobs: Jobs, step: int) -> None:
    """However squeue writes so many single indices."""
    block_all_cpus(jobs)
    array = jobs.submit("true", array_size=100)
    jobs.scheduler.cancel([array.task(index) for index in range(0, 100, step)])

    left = set(range(100)) - set(range(0, 100, step))
    jobs.wait_for(array, dict.fromkeys(left, PENDING))


def test_cancel_of_a_running_array_task(jobs: Jobs) -> None:
    """The others go on, and a waiting one takes its place."""
    array = jobs.submit(WAIT, array_size=3, throttle=2)
    jobs.wait_for(array, {0: RUNNING, 1: RUNNING, 2: PENDING})
    jobs.scheduler.cancel([array.task(1)])

    jobs.wait_for(array, {0: RUNNING, 1: CANCELLED, 2: RUNNING})


def test_cancel_of_an_array(jobs: Jobs) -> None:
    """What waits and what runs: all of it."""
    array = jobs.submit(WAIT, array_size=100, throttle=2)
    assert_soon(lambda: jobs.state(array.task(1)) is RUNNING, TIMEOUT)
    jobs.scheduler.cancel([array])
    jobs.wait_until_ended(array)

    assert set(jobs.states(array).values()) == {CANCELLED}
    assert jobs.state(array.task(0)) is CANCELLED


def test_cancel_of_an_array_that_has_not_started(jobs: Jobs) -> None:
    """One row stays, with the indices."""
    block_all_cpus(jobs)
    array = jobs.submit(WAIT, array_size=10)
    jobs.scheduler.cancel([array])

    jobs.wait_for(array, dict.fromkeys(range(10), CANCELLED))
    assert len(jobs.rows(array)) == 1


def test_cancel_of_all_tasks_before_they_start(jobs: Jobs) -> None:
    """One row stays, without indices."""
    block_all_cpus(jobs)
    array = jobs.submit(WAIT, array_size=4)
    jobs.scheduler.cancel([array.task(1), array.task(3)])
    jobs.wait_for(array, {0: PENDING, 2: PENDING})
    jobs.scheduler.cancel([array.task(0), array.task(2)])

    jobs.wait_for(array, {None: CANCELLED})


def test_cancel_of_many_kinds_at_once(jobs: Jobs) -> None:
    """Jobs, arrays, tasks that run, tasks that wait: in one call."""
    job = jobs.submit(WAIT, name="job")
    whole = jobs.submit(WAIT, name="whole", array_size=5, throttle=1)
    part = jobs.submit(WAIT, name="part", array_size=5, throttle=2)
    jobs.wait_for(job, {None: RUNNING})
    assert_soon(lambda: jobs.state(whole.task(0)) is RUNNING, TIMEOUT)
    assert_soon(lambda: jobs.state(part.task(1)) is RUNNING, TIMEOUT)
    jobs.scheduler.cancel([job, whole, part.task(0), part.task(2), part.task(3)])
    jobs.wait_until_ended(job, whole)

    assert jobs.state(job) is CANCELLED
    assert set(jobs.states(whole).values()) == {CANCELLED}
    jobs.wait_for(part, {0: CANCELLED, 1: RUNNING, 4: RUNNING})


def test_cancel_of_what_is_over_or_unknown_is_silent(jobs: Jobs) -> None:
    """A job may end while somebody decides to cancel it."""
    array = jobs.submit("true", array_size=2)
    jobs.wait_for(array, {0: COMPLETED, 1: COMPLETED})
    unknown = JobId(4_000_000)
    jobs.scheduler.cancel([array, array.task(1), array.task(50), unknown])
    jobs.scheduler.cancel([unknown.task(3)])
    jobs.scheduler.cancel([])

    assert jobs.states(array) == {0: COMPLETED, 1: COMPLETED}


def test_cancel_reaches_every_process_of_the_job(jobs: Jobs) -> None:
    """Also one in a session of its own, and one that ignores SIGTERM."""
    job = jobs.submit(
        "trap '' TERM\n"
        "setsid sleep 1000 & a=$!\n"
        "(trap '' TERM; while true; do sleep 0.1; done) & b=$!\n"
        "echo $$ $a $b > pids\n"
        "wait; wait; wait"
    )
    pids = [int(pid) for pid in read_when_there(jobs.directory() / "pids").split()]
    # For a moment a process that is being replaced has none.
    assert_soon(lambda: all(map(command_line, pids)), TIMEOUT)
    jobs.scheduler.cancel([job])

    jobs.wait_for(job, {None: CANCELLED})
    assert_soon(lambda: not any(map(command_line, pids)), TIMEOUT)


# Throttles


def test_a_throttle_holds_until_it_is_raised(jobs: Jobs) -> None:
    """So many tasks run at once, and no more."""
    array = jobs.submit(WAIT, array_size=6, throttle=2)
    two: States = {index: RUNNING if index < 2 else PENDING for index in range(6)}
    jobs.wait_for(array, two)
    waiting = next(row for row in jobs.rows(array) if row.state is PENDING)
    jobs.scheduler.throttle(array, 3)

    jobs.wait_for(array, {**two, 2: RUNNING})
    assert waiting.reason == "JobArrayTaskLimit"


def test_a_lower_throttle_lets_what_runs_go_on(jobs: Jobs) -> None:
    """The next task starts when fewer run than it says."""
    array = jobs.submit(WAIT, array_size=4, throttle=3)
    three: States = {index: RUNNING if index < 3 else PENDING for index in range(4)}
    jobs.wait_for(array, three)
    jobs.scheduler.throttle(array, 1)
    jobs.scheduler.cancel([array.task(0)])

    jobs.wait_for(array, {**three, 0: CANCELLED})


def test_throttle_of_an_array_that_is_over_fails(jobs: Jobs) -> None:
    """So does that of one that never was."""
    array = jobs.submit("true", array_size=2)
    jobs.wait_until_ended(array)

    with pytest.raises(SchedulerError):
        jobs.scheduler.throttle(array, 1)
    with pytest.raises(SchedulerError):
        jobs.scheduler.throttle(JobId(4_000_000), 1)
