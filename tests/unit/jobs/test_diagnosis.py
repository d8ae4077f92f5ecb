"""Why a job left no outcome: the witnesses, and what the user is told."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_futures.errors import (
    JobCancelled,
    JobFailed,
    JobLost,
    JobOutOfMemory,
    JobPreempted,
    JobState,
    JobTimeout,
    NodeFailed,
)
from slurm_futures.jobs.diagnosis import Remains, diagnose, find_cause
from slurm_futures.runs.submission import Death
from slurm_futures.schedulers.base import Ending

#: A job that began and of which nothing else is known.
BEGAN = Remains(
    job_id="4211_7",
    state=None,
    published=False,
    death=None,
    ending=Ending(),
    started=True,
    worker_started=True,
    array_listed=True,
    node="c17",
    log="",
    stderr_tail="",
    directory=Path("/sweeps/20261122-run/0001/jobs/0-999/7"),
)
STEP = "slurmstepd: error: *** JOB 4218 ON c17 CANCELLED AT 2026-11-22T15:00:00"
OOM = "slurmstepd: error: Detected 1 oom_kill event in StepId=4218.batch."
PROLOG = "Error running slurm prolog: 1"


@pytest.mark.parametrize(
    ("log", "state"),
    [
        ("*** STEP 4218.0 ON c17 CANCELLED AT 2026-11-22T15:00:00 ***", None),
        (f"{STEP} DUE TO TIME LIMIT ***", JobState.TIMEOUT),
        (f"{STEP} DUE TO PREEMPTION ***", JobState.PREEMPTED),
        (f"{STEP} DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***", JobState.NODE_FAIL),
        (f"{STEP} ***", JobState.CANCELLED),
        (f"{STEP} DUE TO JOB REQUEUE ***", None),
        (OOM, JobState.OUT_OF_MEMORY),
        ("Detected 2 oom-kill event(s) in step 4218.batch", JobState.OUT_OF_MEMORY),
        ("Step 4218.0 exceeded memory limit (9 > 5), killed", JobState.OUT_OF_MEMORY),
        ("task 0: OOM Killed", JobState.OUT_OF_MEMORY),
        ("", None),
        ("slurmstepd: error: couldn't chdir to `/nowhere'", None),
        (f"{STEP} DUE TO JOB REQUEUE ***\nprolog\n{STEP} ***", JobState.CANCELLED),
        (f"{STEP} DUE TO TIME LIMIT ***\n{STEP} DUE TO JOB REQUEUE ***", None),
    ],
    ids=[
        "signal for a step",
        "time limit",
        "preemption",
        "node",
        "scancel",
        "requeue",
        "oom_kill, new",
        "oom-kill, old",
        "memory by polling",
        "OOM in a step",
        "empty",
        "something else",
        "requeued, then cancelled",
        "time limit, then requeued",
    ],
)
def test_cause_in_the_log(log: str, state: JobState | None) -> None:
    """The last word counts."""
    assert find_cause(log) is state


@pytest.mark.parametrize(
    ("remains", "error", "state"),
    [
        (replace(BEGAN, state=JobState.TIMEOUT), JobTimeout, JobState.TIMEOUT),
        (replace(BEGAN, state=JobState.DEADLINE), JobTimeout, JobState.DEADLINE),
        (
            replace(BEGAN, state=JobState.OUT_OF_MEMORY, death=Death(137)),
            JobOutOfMemory,
            JobState.OUT_OF_MEMORY,
        ),
        (
            replace(BEGAN, state=JobState.FAILED, log=OOM),
            JobOutOfMemory,
            JobState.OUT_OF_MEMORY,
        ),
        (replace(BEGAN, state=JobState.NODE_FAIL), NodeFailed, JobState.NODE_FAIL),
        (
            replace(BEGAN, ending=Ending(JobState.PREEMPTED)),
            JobPreempted,
            JobState.PREEMPTED,
        ),
        (
            replace(BEGAN, state=JobState.CANCELLED, death=Death(143)),
            JobCancelled,
            JobState.CANCELLED,
        ),
        (
            replace(BEGAN, death=Death(143), log=f"{STEP} ***"),
            JobCancelled,
            JobState.CANCELLED,
        ),
        (
            replace(BEGAN, state=JobState.RUNNING, death=Death(3)),
            JobFailed,
            JobState.FAILED,
        ),
        (
            replace(BEGAN, started=False, node=None),
            JobCancelled,
            JobState.CANCELLED,
        ),
        (
            replace(BEGAN, started=False, state=JobState.CANCELLED, log=PROLOG),
            NodeFailed,
            JobState.NODE_FAIL,
        ),
        (
            replace(BEGAN, state=JobState.CANCELLED, log=f"{PROLOG}\n{STEP} ***"),
            JobCancelled,
            JobState.CANCELLED,
        ),
        (replace(BEGAN, started=False, array_listed=False), JobLost, None),
        (replace(BEGAN, state=JobState.COMPLETED), JobLost, JobState.COMPLETED),
        (
            replace(BEGAN, published=True, problem="cut short"),
            JobLost,
            JobState.COMPLETED,
        ),
        (replace(BEGAN, state=JobState.FAILED), JobFailed, JobState.FAILED),
        (replace(BEGAN), JobLost, None),
    ],
    ids=[
        "time limit",
        "deadline",
        "memory, by the state",
        "memory, by the log",
        "node",
        "preempted, by the accounting",
        "cancelled, by the state",
        "cancelled, by the log",
        "worker died",
        "pending task vanished alone",
        "prolog",
        "prolog, then another attempt that was cancelled",
        "pending array vanished",
        "completed without outcome",
        "outcome not readable",
        "failed without a mark",
        "vanished",
    ],
)
def test_error_for_what_is_left(
    remains: Remains, error: type[JobFailed], state: JobState | None
) -> None:
    """The narrowest class, with the state as an attribute."""
    failure = diagnose(remains)

    assert (type(failure), failure.state) == (error, state)


def test_error_holds_the_facts() -> None:
    """For programs that go on without reading the message."""
    failure = diagnose(replace(BEGAN, death=Death(139), stderr_tail="one\nepoch 3"))

    assert failure.job_id == "4211_7"
    assert (failure.exit_code, failure.signal) == (139, 11)
    assert (failure.node, failure.stderr_tail) == ("c17", "one\nepoch 3")
    assert failure.directory == BEGAN.directory


def test_facts_of_the_scheduler_fill_the_gaps() -> None:
    """Where the job itself has left none."""
    failure = diagnose(replace(BEGAN, node=None, ending=Ending(None, 0, 9, "c4")))

    assert (failure.exit_code, failure.signal, failure.node) == (0, 9, "c4")


def test_signal_is_named_as_the_script_says_it_to_the_scheduler() -> None:
    """Where a signal has reached the script, too."""
    ending = Ending(JobState.FAILED, 143, None, "c4")

    failure = diagnose(replace(BEGAN, death=None, ending=ending))

    assert failure.signal == signal.SIGTERM
    assert "was killed by SIGTERM" in str(failure)


def test_words_of_a_job_that_could_not_begin_are_all_that_is_said() -> None:
    """They say what to do."""
    death = Death(1, 0, words="No directory.\nMake it.")

    failure = diagnose(replace(BEGAN, death=death))

    assert str(failure) == (
        f"job {BEGAN.job_id} ended before its calls began.\nNo directory.\nMake it."
    )


@pytest.mark.parametrize(
    ("remains", "message"),
    [
        (
            replace(
                BEGAN,
                state=JobState.TIMEOUT,
                time_limit="10",
                stderr_tail="epoch 2\nepoch 3",
            ),
            "job 4211_7 was stopped at its time limit of 10 and left no result.\n"
            "It ran on node c17; the last line of its stderr is 'epoch 3'.\n"
            'Ask for more time, SlurmExecutor(time="..."), or see '
            "/sweeps/20261122-run/0001/jobs/0-999/7.",
        ),
        (
            replace(BEGAN, state=JobState.OUT_OF_MEMORY, memory="4G"),
            "job 4211_7 was killed for taking more memory than it asked for (4G).\n"
            "It ran on node c17 and printed nothing to stderr.\n"
            'Ask for more memory, SlurmExecutor(mem="..."), or see '
            "/sweeps/20261122-run/0001/jobs/0-999/7.",
        ),
        (
            replace(BEGAN, death=Death(139), node=None),
            "job 4211_7 was killed by SIGSEGV and left no result.\n"
            "It ran and printed nothing to stderr.\n"
            "For what it printed see /sweeps/20261122-run/0001/jobs/0-999/7.",
        ),
        (
            replace(
                BEGAN,
                started=False,
                state=JobState.FAILED,
                ending=Ending(JobState.FAILED, 1, reason="JobLaunchFailure"),
            ),
            "job 4211_7 ended with exit code 1 and left no result.\n"
            "Its script never began (reason JobLaunchFailure).\n"
            "Check that the nodes share the directory /sweeps/20261122-run with this "
            "machine, and that it has room for more files ('df' and 'df -i' tell), "
            "then submit it again.",
        ),
        (
            replace(BEGAN, started=False, state=JobState.COMPLETED),
            "job 4211_7 has ended, as Slurm says, but its result did not appear within "
            "60 s.\nIts script ended before Python began.\n"
            "Take out of setup= what ends the script, such as 'exec', or check that "
            "the nodes share /sweeps/20261122-run with this machine.",
        ),
        (
            replace(BEGAN, started=False),
            "job 4211_7 was cancelled with scancel, not by this program.\n"
            "Its script never began.\nSubmit the call again.",
        ),
        (
            replace(BEGAN, started=False, state=JobState.CANCELLED, log=PROLOG),
            "job 4211_7 could not begin: the prolog of its node failed.\n"
            "Its script never began.\nSubmit the call again.",
        ),
        (
            replace(
                BEGAN, started=False, ending=Ending(JobState.CANCELLED, node="c17")
            ),
            "job 4211_7 was cancelled before its script began: with scancel, or by "
            "Slurm, since node c17 could not start it ('sinfo -R' tells).\n"
            "Its script never began.\nSubmit the call again.",
        ),
        (
            replace(
                BEGAN,
                worker_started=False,
                node=None,
                death=Death(127),
                log="prolog\nscript.sh: line 27: python9: command not found",
            ),
            "job 4211_7 ended with exit code 127 and left no result.\n"
            "It did not get as far as to run Python. The last line of Slurm's log is "
            "'script.sh: line 27: python9: command not found'.\n"
            "Look at the options python= and setup= of the SlurmExecutor.",
        ),
    ],
    ids=[
        "time limit",
        "memory",
        "signal",
        "never began",
        "left no trace",
        "cancelled while pending",
        "prolog",
        "cancelled on a node",
        "no Python",
    ],
)
def test_message_says_what_why_and_what_to_type(remains: Remains, message: str) -> None:
    """Three sentences."""
    assert str(diagnose(remains)) == message


@pytest.mark.parametrize(
    ("remains", "words"),
    [
        (replace(BEGAN, state=JobState.DEADLINE), "at its deadline"),
        (replace(BEGAN, state=JobState.BOOT_FAIL), "with its node (BOOT_FAIL)"),
        (replace(BEGAN, state=JobState.PREEMPTED), "of higher priority"),
        (replace(BEGAN, state=JobState.COMPLETED), "did not appear within 60 s"),
        (replace(BEGAN, grace=5), "is not known to Slurm any more"),
        (replace(BEGAN, death=Death(128 + 40)), "killed by signal 40"),
        (replace(BEGAN, state=JobState.FAILED), "an unknown exit code"),
        (
            replace(BEGAN, published=True, problem="cut short"),
            "its result is not readable: cut short.",
        ),
    ],
)
def test_first_line_says_what_happened(remains: Remains, words: str) -> None:
    """In the words of a user."""
    first = str(diagnose(remains)).splitlines()[0]

    assert first.startswith("job 4211_7 ")
    assert words in first


def test_a_crash_of_python_is_quoted_with_its_cause() -> None:
    """And not with the last line that it prints, which is about threads."""
    crash = "Fatal Python error: init_fs_encoding: no encodings"
    text = (
        f"{crash}\n\nCurrent thread 0x1 (most recent call first):\n  <no Python frame>"
    )
    for remains in (
        replace(BEGAN, stderr_tail=text),
        replace(BEGAN, log=text),
        replace(BEGAN, log=text, worker_started=False),
    ):
        assert repr(crash) in str(diagnose(remains))
    assert "'epoch 7'" in str(diagnose(replace(BEGAN, stderr_tail=f"{text}\nepoch 7")))
