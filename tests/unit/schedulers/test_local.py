"""What is particular to the scheduler that runs jobs here."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slurm_futures import JobFailed, SlurmExecutor
from slurm_futures.errors import JobState, OptionError, SubmitError
from slurm_futures.schedulers.base import BatchScript
from slurm_futures.schedulers.local import processes, scheduler
from slurm_futures.schedulers.local.queue import LocalQueue
from slurm_futures.schedulers.local.scheduler import LocalScheduler
from slurm_futures.schedulers.quantities import parse_time
from tests.jobs import TIMEOUT, WAIT, Jobs, read_when_there, variables
from tests.slurm.processes import command_line
from tests.waiting import assert_soon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeJobs = Callable[[LocalScheduler], Jobs]

PENDING, RUNNING, COMPLETED = JobState.PENDING, JobState.RUNNING, JobState.COMPLETED
FAILED, CANCELLED, TIMED_OUT = JobState.FAILED, JobState.CANCELLED, JobState.TIMEOUT


@pytest.fixture
def make_jobs(tmp_path: Path) -> Iterator[MakeJobs]:
    """Give places for scripts; in the end, nothing of them runs any more."""
    made: list[Jobs] = []

    def make(scheduler: LocalScheduler) -> Jobs:
        made.append(Jobs(scheduler, tmp_path / f"jobs-{len(made)}"))
        return made[-1]

    yield make
    for jobs in made:
        jobs.scheduler.cancel(jobs.submitted)
        jobs.wait_until_ended(*jobs.submitted)


@pytest.fixture
def jobs(make_jobs: MakeJobs) -> Jobs:
    """Give a place for scripts that run on two CPUs."""
    return make_jobs(LocalScheduler(2))


def our_threads() -> list[str]:
    """The names of the threads of all local schedulers."""
    return [t.name for t in threading.enumerate() if t.name.startswith("slurm_futures")]


# CPUs


def test_as_many_jobs_run_as_there_are_cpus(jobs: Jobs) -> None:
    """Two, here; then the next ones."""
    array = jobs.submit(WAIT, array_size=5)
    jobs.wait_for(array, {0: RUNNING, 1: RUNNING, 2: PENDING, 3: PENDING, 4: PENDING})
    jobs.open_gate()

    jobs.wait_for(array, dict.fromkeys(range(5), COMPLETED))


def test_all_cpus_of_the_process_are_used_by_default() -> None:
    """Those that this process may use, not those that there are."""
    cpus = len(os.sched_getaffinity(0))

    assert repr(LocalScheduler()) == f"LocalScheduler(cpus={cpus})"


def test_all_cpus_are_used_where_nobody_knows_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On macOS a process cannot be kept off a CPU."""
    monkeypatch.delattr(os, "sched_getaffinity")

    assert repr(LocalScheduler()) == f"LocalScheduler(cpus={os.cpu_count()})"


@pytest.mark.parametrize("cpus", [0, 2.5, "2"])
def test_bad_number_of_cpus_is_a_mistake(cpus: Any) -> None:
    """No job could ever start."""
    with pytest.raises(OptionError, match="no job could start"):
        LocalScheduler(cpus)


def test_first_come_first_served(jobs: Jobs) -> None:
    """A small job does not overtake a large one that waits for CPUs."""
    first = jobs.submit(WAIT, name="first")
    large = jobs.submit("true", name="large", options={"cpus_per_task": 2})
    small = jobs.submit("true", name="small")
    jobs.wait_for(first, {None: RUNNING})

    assert {jobs.rows(job)[0].reason for job in (large, small)} == {"Resources"}
    jobs.open_gate("first")
    jobs.wait_for(small, {None: COMPLETED})
    assert jobs.state(large) is COMPLETED


def test_a_throttled_array_lets_others_pass(jobs: Jobs) -> None:
    """It does not wait for CPUs."""
    array = jobs.submit(WAIT, name="array", array_size=5, throttle=1)
    job = jobs.submit("true", name="job")
    jobs.wait_for(job, {None: COMPLETED})

    assert jobs.rows(array)[0].reason == "JobArrayTaskLimit"


def test_a_job_with_more_cpus_than_there_are_runs_alone(jobs: Jobs) -> None:
    """Rather than never."""
    job = jobs.submit("env -0 > variables; " + WAIT, options={"cpus_per_task": 99})
    other = jobs.submit(WAIT, name="other")
    jobs.wait_for(job, {None: RUNNING})

    assert jobs.state(other) is PENDING
    jobs.open_gate()
    jobs.wait_for(other, {None: RUNNING})
    found = variables(jobs.directory() / "variables")
    assert (found["SLURM_CPUS_PER_TASK"], found["SLURM_CPUS_ON_NODE"]) == ("99", "2")


# Costs


def test_pending_array_tasks_cost_nothing(jobs: Jobs) -> None:
    """100,000 of them are no objects, not even when single ones are cancelled."""
    jobs.submit(WAIT, name="blocker", array_size=2)
    gc.collect()
    before = len(gc.get_objects())
    array = jobs.submit("true", array_size=100_000)
    jobs.scheduler.cancel([array.task(index) for index in range(0, 100_000, 50_000)])

    assert jobs.rows(array)[0].indices == (range(1, 50_000), range(50_001, 100_000))
    assert len(gc.get_objects()) - before < 1000


def test_every_second_pending_task_can_be_cancelled(jobs: Jobs) -> None:
    """What remains is what was not named."""
    jobs.submit(WAIT, name="blocker", array_size=2)
    array = jobs.submit("true", array_size=20_000)
    jobs.scheduler.cancel([array.task(index) for index in range(0, 20_000, 2)])

    remaining = [i for r in jobs.rows(array)[0].indices or () for i in r]
    assert remaining == list(range(1, 20_000, 2))


def test_no_thread_lives_while_nothing_runs(jobs: Jobs) -> None:
    """One for each job that runs, and none for those that wait."""
    array = jobs.submit(WAIT, array_size=100)
    assert_soon(lambda: jobs.state(array.task(1)) is RUNNING)
    assert our_threads() == [
        f"slurm_futures local job {array}_{index}" for index in range(2)
    ]
    jobs.scheduler.cancel([array])

    assert_soon(lambda: our_threads() == [])


def test_ended_jobs_are_forgotten(tmp_path: Path) -> None:
    """After `min_job_age`, as in Slurm; what still waits stays."""
    queue = LocalQueue(2, min_job_age=0)
    batch = BatchScript(Path("script"), "job", tmp_path, "log", array_size=2)
    ended, cancelled, waits = (queue.add(batch) for _ in range(3))
    for job in queue.claim():
        queue.finish(job, 0, None)
    queue.cancel([cancelled])

    assert queue.rows().keys() == {waits}
    assert queue.explain([ended.task(0), cancelled]) == {}


def test_schedulers_do_not_share_jobs() -> None:
    """Each has a queue of its own."""
    first, second = LocalScheduler(), LocalScheduler()

    assert first.identity != second.identity


def test_explain_knows_tasks_that_were_cancelled_with_their_array(jobs: Jobs) -> None:
    """As long as the record of the array is there."""
    array = jobs.submit(WAIT, array_size=5)
    assert_soon(lambda: jobs.state(array.task(1)) is RUNNING)
    jobs.scheduler.cancel([array])
    jobs.wait_until_ended(array)
    tasks = [array.task(index) for index in (1, 3, 7)]
    endings = jobs.scheduler.explain(tasks)

    assert {job: ending.state for job, ending in endings.items()} == {
        array.task(1): CANCELLED,
        array.task(3): CANCELLED,
    }


# Time limits


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 120),
        (30, 1800),
        ("1:30", 90),
        ("0:05", 5),
        ("90:00", 5400),
        ("1:00:00", 3600),
        ("100:00:01", 360_001),
        ("1-", 86_400),
        ("1-2", 93_600),
        ("1-2:03", 93_780),
        ("1-2:03:04", 93_784),
        ("0", None),
        ("UNLIMITED", None),
        ("infinite", None),
        (-1, None),
    ],
)
def test_time_limits_are_read_as_sbatch_does(
    text: str | int, seconds: float | None
) -> None:
    """All formats of sbatch(1)."""
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "banana",
        "1:2:3:4",
        "1-:",
        "-5",
        "1-2:3:4:5",
        "1.5",
        True,
        "1 mim",
        "٣",
        "1:",
    ],
)
def test_bad_time_limits_are_refused(jobs: Jobs, text: str | bool) -> None:
    """With advice; nothing is submitted."""
    with pytest.raises(SubmitError, match="is not a time limit"):
        jobs.submit("true", options={"time": text})

    assert jobs.scheduler.query().jobs == {}


@pytest.mark.parametrize("cpus", ["many", "0", "2.5", True])
def test_bad_numbers_of_cpus_are_refused(jobs: Jobs, cpus: str | bool) -> None:
    """With the option that is wrong."""
    with pytest.raises(SubmitError, match="is not a number of CPUs"):
        jobs.submit("true", options={"cpus_per_task": cpus})


def test_a_job_ends_at_its_time_limit(jobs: Jobs) -> None:
    """State, reason and log say so."""
    job = jobs.submit(WAIT, options={"time": "0:01"})
    jobs.wait_for(job, {None: TIMED_OUT})
    ending = jobs.scheduler.explain([job])[job]

    assert ending.state is TIMED_OUT
    assert (ending.exit_code, ending.signal) == (0, signal.SIGTERM)
    # bash may add "Terminated", where its child obeys first.
    line = (jobs.directory() / "log").read_text().splitlines()[0]
    assert line.startswith(f"slurmstepd: error: *** JOB {job} ON ")
    assert line.endswith(" DUE TO TIME LIMIT ***")


@pytest.mark.parametrize("look", ["_list_processes", "_read_stat"])
def test_a_job_ends_at_its_time_limit_without_file_descriptors(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """Where /proc cannot be read the stop reaches the process group."""

    def fail(*_: int) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(processes, "KILL_WAIT", 0)
    monkeypatch.setattr(processes, look, fail)
    job = jobs.submit(WAIT, options={"time": "0:01"})
    try:
        jobs.wait_for(job, {None: TIMED_OUT})
    finally:
        jobs.open_gate()


def test_a_job_ends_before_its_time_limit(jobs: Jobs) -> None:
    """Nothing waits for the limit."""
    job = jobs.submit("true", options={"time": "7-0"})
    jobs.wait_for(job, {None: COMPLETED})

    assert_soon(lambda: our_threads() == [])


def test_a_job_that_is_cancelled_does_not_time_out(jobs: Jobs) -> None:
    """What comes first decides."""
    job = jobs.submit("trap '' TERM; " + WAIT, options={"time": "0:01"})
    jobs.wait_for(job, {None: RUNNING})
    jobs.scheduler.cancel([job])
    jobs.scheduler.cancel([job])

    assert jobs.state(job) is JobState.COMPLETING
    jobs.wait_for(job, {None: CANCELLED})
    assert (jobs.directory() / "log").read_text().count("CANCELLED") == 1


# Ends of processes


@pytest.mark.parametrize(
    "start",
    [
        pytest.param("(setsid sleep 1000 & echo $! > pid)", id="its parent has ended"),
        pytest.param("env -i setsid sleep 1000 & echo $! > pid", id="no environment"),
        pytest.param("(env -i sleep 1000 & echo $! > pid)", id="neither"),
    ],
)
def test_cancel_finds_what_hides(jobs: Jobs, start: str) -> None:
    """It is enough to be in the session, a descendant, or to have our variable."""
    job = jobs.submit(f"{start}; {WAIT}")
    pid = int(read_when_there(jobs.directory() / "pid"))
    assert_soon(lambda: command_line(pid) == "sleep 1000")
    jobs.scheduler.cancel([job])

    jobs.wait_for(job, {None: CANCELLED})
    assert not command_line(pid)


def test_cancel_ends_a_stopped_job(jobs: Jobs) -> None:
    """It is woken up, so that it can obey."""
    job = jobs.submit(
        f"trap 'echo bye; exit' TERM; echo $$ > pid; kill -s STOP $$; {WAIT}"
    )
    pid = read_when_there(jobs.directory() / "pid").strip()
    assert_soon(lambda: " (bash) T " in Path(f"/proc/{pid}/stat").read_text())
    jobs.scheduler.cancel([job])
    jobs.wait_for(job, {None: CANCELLED})

    assert "bye\n" in (jobs.directory() / "log").read_text()


def test_cancel_gives_up_on_what_cannot_be_killed(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a process of another user, or one that waits for a dead disk."""
    monkeypatch.setattr(processes, "KILL_WAIT", 0)
    monkeypatch.setattr(processes.JobProcess, "_pids", lambda _: {1 << 30})
    job = jobs.submit(WAIT)
    jobs.wait_for(job, {None: RUNNING})
    jobs.scheduler.cancel([job])
    jobs.open_gate()

    jobs.wait_for(job, {None: CANCELLED})


def test_cancel_leaves_time_to_clean_up(jobs: Jobs) -> None:
    """Also to processes that outlive the script."""
    job = jobs.submit(
        'bash -c \'trap "sleep 0.3; echo clean; exit" TERM; echo ready > ready\n'
        "while true; do sleep 0.02; done' &\nwait"
    )
    read_when_there(jobs.directory() / "ready")
    jobs.scheduler.cancel([job])
    jobs.wait_for(job, {None: CANCELLED})

    assert (jobs.directory() / "log").read_text().endswith("clean\n")


def test_the_end_of_the_script_ends_its_process_group(jobs: Jobs) -> None:
    """A job that is over uses no CPU."""
    job = jobs.submit("sleep 1000 & echo $! > pid")
    jobs.wait_for(job, {None: COMPLETED})
    pid = int((jobs.directory() / "pid").read_text())

    assert_soon(lambda: not command_line(pid))


def test_a_job_can_be_cancelled_while_it_starts(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as soon as it runs."""
    starts, may_start = threading.Event(), threading.Event()

    class SlowProcess(processes.JobProcess):
        def __init__(self, *arguments: Any) -> None:
            starts.set()
            assert may_start.wait(TIMEOUT)
            super().__init__(*arguments)

    monkeypatch.setattr(scheduler, "JobProcess", SlowProcess)
    job = jobs.submit(WAIT)
    assert starts.wait(TIMEOUT)
    jobs.scheduler.cancel([job])
    may_start.set()

    jobs.wait_for(job, {None: CANCELLED})


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.EACCES])
def test_a_job_waits_for_descriptors_and_files(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """That there are none now, or that its log cannot be opened, is no fault of it."""
    shortages = [OSError(number, os.strerror(number))]

    class LateProcess(processes.JobProcess):
        def __init__(self, *arguments: Any) -> None:
            if shortages:
                raise shortages.pop()
            super().__init__(*arguments)

    monkeypatch.setattr(scheduler, "_START_PAUSE", 0.01)
    monkeypatch.setattr(scheduler, "JobProcess", LateProcess)
    job = jobs.submit("true")

    jobs.wait_for(job, {None: COMPLETED})
    assert not shortages


def test_a_log_that_cannot_be_opened_at_all_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the call has the words of the system."""

    def fail(*_: object) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(scheduler, "_START_PATIENCE", 0.0)
    monkeypatch.setattr(scheduler, "JobProcess", fail)
    with SlurmExecutor(scheduler="local", directory=tmp_path) as executor:
        error = executor.submit(abs, -1).exception(60)

    assert isinstance(error, JobFailed)
    assert "could not be started" in str(error)
    assert os.strerror(errno.EIO) in str(error)


def test_a_job_that_cannot_be_started_for_any_reason_ends(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would keep its CPUs for ever."""

    def fail(*_: object) -> object:
        raise ValueError("an environment that cannot be encoded")

    monkeypatch.setattr(scheduler, "JobProcess", fail)
    job = jobs.submit("true")

    jobs.wait_for(job, {None: FAILED})
    assert "an environment that cannot be encoded" in caplog.text


def test_a_stop_that_comes_too_late_does_nothing(tmp_path: Path) -> None:
    """The number of the process may belong to somebody else by then."""
    log = tmp_path / "log"
    process = processes.JobProcess(["true"], {}, tmp_path, log)

    assert process.wait()
    assert process.reap() == 0
    process.stop("JOB 1 ON here CANCELLED")
    assert log.read_text() == ""


def test_somebody_else_may_wait_for_the_children(tmp_path: Path) -> None:
    """Programs that reap all their children are no reason to hang."""
    process = processes.JobProcess(["true"], {}, tmp_path, tmp_path / "log")
    os.waitpid(-1, 0)

    assert process.wait()
    assert process.reap() == 0


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what only Linux has: macOS has process groups, and no more."""
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.setattr(processes, "_PROC", Path("/no-proc"))


def test_a_job_ends_elsewhere(jobs: Jobs, elsewhere: None) -> None:
    """Without a pidfd."""
    job = jobs.submit("exit 3", options={"time": "1:00"})

    jobs.wait_for(job, {None: FAILED})


@pytest.mark.parametrize("script", ["sleep 1000 & wait", "exec sleep 1000"])
def test_cancel_elsewhere(jobs: Jobs, elsewhere: None, script: str) -> None:
    """It reaches the process group."""
    job = jobs.submit(f"echo $$ > pid; {script}")
    group = int(read_when_there(jobs.directory() / "pid"))
    jobs.scheduler.cancel([job])
    jobs.wait_for(job, {None: CANCELLED})

    assert not command_line(group)


def test_a_job_ends_at_its_time_limit_elsewhere(jobs: Jobs, elsewhere: None) -> None:
    """Its thread looks for its end in turns."""
    job = jobs.submit(WAIT, options={"time": "0:01"})

    jobs.wait_for(job, {None: TIMED_OUT})


# What a job finds


@pytest.mark.parametrize("missing", ["log", "directory"])
def test_a_job_whose_directories_are_gone_fails(
    tmp_path: Path, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has deleted the run: why it did not start is told."""
    log = tmp_path / ("missing" if missing == "log" else "") / "log"
    directory = tmp_path / ("missing" if missing == "directory" else "")
    jobs = Jobs(LocalScheduler(), tmp_path)
    batch = BatchScript(tmp_path / "script", "job", directory, str(log))
    job = jobs.scheduler.submit(batch)
    jobs.wait_for(job, {None: FAILED})

    assert "No such file or directory" in caplog.text
    assert "Traceback" not in caplog.text
    ending = jobs.scheduler.explain([job])[job]
    assert (ending.exit_code, ending.signal) == (0, 53)


def test_a_script_that_is_gone_fails_the_job(jobs: Jobs) -> None:
    """It is read when the job starts; the log has the words of bash."""
    jobs.submit(WAIT, name="blocker", array_size=2)
    job = jobs.submit("true")
    (jobs.directory() / "script.sh").unlink()
    jobs.open_gate("blocker")
    jobs.wait_for(job, {None: FAILED})

    assert "script.sh" in (jobs.directory() / "log").read_text()


def test_variables_of_slurm_that_stay(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How to find Slurm, and what is for this library."""
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_FUTURES_SCHEDULER": "local"}
    dropped = {"SLURM_JOB_PARTITION", "SBATCH_QOS", "SQUEUE_USERS", "PMI_RANK"}
    for name, value in {**kept, **dict.fromkeys(dropped, "x")}.items():
        monkeypatch.setenv(name, value)
    job = jobs.submit("env -0 > variables")
    jobs.wait_for(job, {None: COMPLETED})
    found = variables(jobs.directory() / "variables")

    assert {name: found.get(name) for name in kept} == kept
    assert not dropped & found.keys()


def test_a_client_whose_directory_is_gone(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs are submitted all the same."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    job = jobs.submit("echo $SLURM_SUBMIT_DIR > here")
    jobs.wait_for(job, {None: COMPLETED})

    assert (jobs.directory() / "here").read_text() == f"{jobs.directory()}\n"


# The program and its jobs

_PROGRAM = """
import os, signal, sys
from pathlib import Path
from slurm_futures.schedulers.base import BatchScript
from slurm_futures.schedulers.local.scheduler import LocalScheduler

here = Path(sys.argv[1])
batch = BatchScript(here / "script.sh", "job", here, str(here / "log"), array_size=3)
LocalScheduler(1).submit(batch)
"""


def run_program(directory: Path, script: str, program: str) -> int:
    """Run a program that submits this script; its exit code."""
    (directory / "script.sh").write_text(f"#!/bin/bash\n{script}\n")
    command = [sys.executable, "-c", program, str(directory)]
    answer = subprocess.run(command, timeout=TIMEOUT, check=False)
    return answer.returncode


def test_a_program_that_ends_still_runs_what_waits(tmp_path: Path) -> None:
    """Its last act is to wait for the jobs."""
    script = "sleep 0.1; touch done-$SLURM_ARRAY_TASK_ID"

    assert run_program(tmp_path, script, _PROGRAM) == 0
    assert len(list(tmp_path.glob("done-*"))) == 3


def test_a_job_outlives_the_program(tmp_path: Path) -> None:
    """Nothing is left to start the others, but the one that runs goes on."""
    wait = "while not (here / 'started').exists(): pass\n"
    kill = "os.kill(os.getpid(), signal.SIGKILL)\n"
    script = f"touch started; {WAIT}; echo done > done"

    assert run_program(tmp_path, script, _PROGRAM + wait + kill) == -signal.SIGKILL
    (tmp_path / "gate").touch()
    assert read_when_there(tmp_path / "done") == "done\n"


def _refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


def test_jobs_run_where_no_thread_can_be_started(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.12 starts none when the main thread has ended."""
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    array = jobs.submit("true", array_size=5)

    assert jobs.states(array) == dict.fromkeys(range(5), COMPLETED)


def test_jobs_can_be_cancelled_where_no_thread_can_be_started(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits runs in the thread of the job that makes room."""
    array = jobs.submit(f"[ $SLURM_ARRAY_TASK_ID != 1 ] || {{ {WAIT}; }}", array_size=5)
    assert_soon(lambda: jobs.state(array.task(4)) is COMPLETED)
    later = jobs.submit("exit 3", name="later", options={"cpus_per_task": 2})
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    jobs.scheduler.cancel([array])

    jobs.wait_for(later, {None: FAILED})
    assert jobs.state(array.task(1)) is CANCELLED


def test_many_threads_may_submit_and_cancel(make_jobs: MakeJobs) -> None:
    """Every job ends, and all CPUs are free again."""
    jobs = make_jobs(LocalScheduler(4))

    def submit_and_cancel(number: int) -> None:
        name = f"array-{number}"
        array = jobs.submit(WAIT, name=name, array_size=20, throttle=3)
        jobs.scheduler.cancel([array.task(index) for index in range(0, 20, 3)])
        jobs.scheduler.throttle(array, 0)
        jobs.open_gate(name)

    threads = [threading.Thread(target=submit_and_cancel, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jobs.wait_until_ended(*jobs.submitted)
    last = jobs.submit("true", options={"cpus_per_task": 4})

    jobs.wait_for(last, {None: COMPLETED})
