"""Why a job left no outcome, as a typed error that says what to type next.

The witnesses, most reliable first: Slurm's own state where it is specific, what
slurmstepd wrote into the log of the job, the mark of the job script, what scontrol
or sacct still know.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from slurm_futures.node.formats import NOT_WRITTEN
from slurm_futures.schedulers.base import NOT_LAUNCHED, Ending

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_futures.runs.submission import Death

#: What slurmstepd and slurmd write into the log of a job, 20.11 to 26.05.
_LOG_WORDS: tuple[tuple[JobState | None, str], ...] = (
    (JobState.OUT_OF_MEMORY, r"oom.kill|exceeded memory limit|OOM Killed"),
    (JobState.TIMEOUT, "DUE TO TIME LIMIT"),
    (JobState.PREEMPTED, "DUE TO PREEMPTION"),
    (JobState.NODE_FAIL, "DUE TO NODE FAILURE"),
    (None, "DUE TO JOB REQUEUE"),
    (None, "^slurm_futures: restart"),  # of the script: what follows is a new attempt
    # Not "STEP 4218.0": a step gets signals that the job lives on after.
    (JobState.CANCELLED, r"JOB \d+ .*CANCELLED AT"),
)

#: The same where the prolog of a node fails; by 22.05 only if it runs with the script.
#: Slurm then cancels a job that must not be requeued, as if somebody had done so.
_PROLOG_FAILED = r"running slurm prolog"

#: Slurm's reason for a job that it cancels because of `--dependency`.
_NEVER_SATISFIED = "DependencyNeverSatisfied"

#: States that name a cause. FAILED and COMPLETED do not: memory enforcement by polling
#: ends in FAILED, and the other witnesses know more.
_SPECIFIC = frozenset(
    {
        JobState.TIMEOUT,
        JobState.DEADLINE,
        JobState.OUT_OF_MEMORY,
        JobState.NODE_FAIL,
        JobState.BOOT_FAIL,
        JobState.PREEMPTED,
    }
)

_ERRORS: dict[JobState, type[JobFailed]] = {
    JobState.TIMEOUT: JobTimeout,
    JobState.DEADLINE: JobTimeout,
    JobState.OUT_OF_MEMORY: JobOutOfMemory,
    JobState.NODE_FAIL: NodeFailed,
    JobState.BOOT_FAIL: NodeFailed,
    JobState.PREEMPTED: JobPreempted,
    JobState.CANCELLED: JobCancelled,
    JobState.FAILED: JobFailed,
}


@dataclass(frozen=True, slots=True)
class Remains:
    """All that is known of a job that left no outcome for a call.

    Attributes:
        state: of the last snapshot that listed the job; None if it was not listed.
        published: whether its outcomes are there, as its mark says.
        death: what its script wrote when the worker had died.
        started: whether the script of the job has begun.
        worker_started: whether it got as far as to start Python.
        array_listed: whether the last snapshot listed other tasks of its array.
        log: what Slurm wrote into the log of the job.
        time_limit, memory: the options of the executor, None if not given.
        grace: seconds that were waited for the files of the job.
        problem: why its outcomes could not be read, if they are there.
    """

    job_id: str
    state: JobState | None
    published: bool
    death: Death | None
    ending: Ending
    started: bool
    worker_started: bool
    array_listed: bool
    node: str | None
    log: str
    stderr_tail: str
    directory: Path
    time_limit: object = None
    memory: object = None
    grace: float = 60.0
    problem: str = ""

    @property
    def words(self) -> str:
        """Why none of its calls could begin, as the job itself has said; or empty."""
        return "" if self.death is None else self.death.words


def diagnose(remains: Remains) -> JobFailed:
    """Return the error for the calls that the job has not finished."""
    state = _find_state(remains)
    exit_code, by_signal = _find_exit(remains)
    cls = JobLost if state is None else _ERRORS.get(state, JobLost)
    if _depends_on_a_failure(remains, state):
        cls = JobFailed  # nobody has cancelled it
    what = _what(remains, state, exit_code, by_signal)
    message = f"{what}\n{_facts(remains)}\n{_advice(remains, cls)}"
    if state is JobState.FAILED and remains.words:
        message = f"job {remains.job_id} ended before its calls began.\n{remains.words}"
    return cls(
        message,
        job_id=remains.job_id,
        state=state,
        exit_code=exit_code,
        signal=by_signal,
        node=remains.node or remains.ending.node,
        stderr_tail=remains.stderr_tail,
        directory=remains.directory if remains.started else None,
    )


def find_cause(log: str) -> JobState | None:
    """Return what the log that Slurm writes about a job says of its end.

    The last word counts: a job that was requeued has a log with several ends.
    """
    for line in reversed(log.splitlines()):
        for state, words in _LOG_WORDS:
            if re.search(words, line, re.IGNORECASE):
                return state
    return None


def _find_state(remains: Remains) -> JobState | None:
    known = [remains.state, remains.ending.state]
    for state in known:
        if state in _SPECIFIC:
            return state
    if _is_prolog_to_blame(remains):
        return JobState.NODE_FAIL
    cause = find_cause(remains.log)
    if cause is not None:
        return cause
    if JobState.CANCELLED in known:
        return JobState.CANCELLED
    if remains.published:
        return JobState.COMPLETED
    if remains.death is not None:
        return JobState.FAILED
    if not remains.started and remains.state is None and remains.array_listed:
        # A pending array task that is cancelled alone leaves no record at all.
        return JobState.CANCELLED
    return next((state for state in known if state is not None and state.ended), None)


def _is_prolog_to_blame(remains: Remains) -> bool:
    return not remains.started and bool(re.search(_PROLOG_FAILED, remains.log))


def _find_exit(remains: Remains) -> tuple[int | None, int | None]:
    ending, death = remains.ending, remains.death
    code = ending.exit_code if death is None else death.exit_code
    by_signal = ending.signal if death is None else None
    if by_signal is None and code is not None and 128 < code < 128 + 65:
        by_signal = code - 128  # as the script says it, like any shell
    return code, by_signal


def _what(
    remains: Remains,
    state: JobState | None,
    exit_code: int | None,
    by_signal: int | None,
) -> str:
    job = f"job {remains.job_id}"
    match state:
        case JobState.TIMEOUT:
            limit = remains.time_limit
            of = "" if limit is None else f" of {limit}"
            return f"{job} was stopped at its time limit{of} and left no result."
        case JobState.DEADLINE:
            return f"{job} was stopped at its deadline and left no result."
        case JobState.OUT_OF_MEMORY:
            asked = "" if remains.memory is None else f" ({remains.memory})"
            return f"{job} was killed for taking more memory than it asked for{asked}."
        case JobState.NODE_FAIL if _is_prolog_to_blame(remains):
            return f"{job} could not begin: the prolog of its node failed."
        case JobState.NODE_FAIL | JobState.BOOT_FAIL:
            return f"{job} ended with its node ({state.name}) and left no result."
        case JobState.PREEMPTED:
            return (
                f"{job} was preempted by a job of higher priority; it left no result."
            )
        case JobState.CANCELLED if _may_have_been_refused(remains):
            return (
                f"{job} was cancelled before its script began: with scancel, or by "
                f"Slurm, since node {remains.ending.node} could not start it "
                "('sinfo -R' tells)."
            )
        case JobState.CANCELLED if _depends_on_a_failure(remains, state):
            return (
                f"{job} was cancelled by Slurm, since it depends on a job that has "
                f"failed ({_NEVER_SATISFIED})."
            )
        case JobState.CANCELLED:
            return f"{job} was cancelled with scancel, not by this program."
        case JobState.FAILED if remains.death is not None and remains.death.error:
            return f"{job} {_failed_with(remains.death)}."
        case JobState.FAILED if by_signal == NOT_LAUNCHED and not remains.started:
            return f"{job} could not be started on its node."
        case JobState.FAILED if by_signal is not None:
            return f"{job} was killed by {_signal_name(by_signal)} and left no result."
        case JobState.FAILED:
            code = (
                "an unknown exit code"
                if exit_code is None
                else f"exit code {exit_code}"
            )
            return f"{job} ended with {code} and left no result."
        case JobState.COMPLETED if remains.problem:
            return (
                f"{job} has ended, but its result is not readable: {remains.problem}."
            )
        case JobState.COMPLETED:
            return (
                f"{job} has ended, as Slurm says, but its result did not appear within "
                f"{remains.grace:g} s."
            )
        case _:
            return (
                f"{job} is not known to Slurm any more, and its result did not appear "
                f"within {remains.grace:g} s."
            )


def _depends_on_a_failure(remains: Remains, state: JobState | None) -> bool:
    return state is JobState.CANCELLED and remains.ending.reason == _NEVER_SATISFIED


def _may_have_been_refused(remains: Remains) -> bool:
    """Whether a cancelled job had a node, and slurmstepd tells of no scancel."""
    is_unheard_of = not remains.started and find_cause(remains.log) is None
    return is_unheard_of and remains.ending.node is not None


def _failed_with(death: Death) -> str:
    words = os.strerror(death.error)
    if death.failed == NOT_WRITTEN:
        return f"has ended, but its result could not be written: {words}"
    return f"could not begin, since the files of its run could not be used: {words}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _facts(remains: Remains) -> str:
    if not remains.started:
        if JobState.COMPLETED in {remains.state, remains.ending.state}:
            return f"Its script ended before Python began.{_last_words(remains)}"
        reason = remains.ending.reason
        because = f" (reason {reason})" if reason else ""
        words = "" if _is_prolog_to_blame(remains) else _last_words(remains)
        return f"Its script never began{because}.{words}"
    if not remains.worker_started:
        return f"It did not get as far as to run Python.{_last_words(remains)}"
    node = remains.node or remains.ending.node
    where = "It ran" if node is None else f"It ran on node {node}"
    last = _last_line(remains.stderr_tail)
    if last:
        return f"{where}; the last line of its stderr is {last!r}."
    return f"{where} and printed nothing to stderr.{_last_words(remains)}"


def _last_words(remains: Remains) -> str:
    last = _last_line(remains.log)
    return f" The last line of Slurm's log is {last!r}." if last else ""


def _last_line(text: str) -> str:
    """Return the last line; of what Python tells of its own crash, that with the cause.

    Below that are lines about the stacks of its threads.
    """
    lines = text.splitlines() or [""]
    if lines[-1].startswith(("  ", "Extension modules:")):
        crashes = [line for line in lines if line.startswith("Fatal Python error:")]
        return (crashes or lines)[-1]
    return lines[-1]


def _advice(remains: Remains, cls: type[JobFailed]) -> str:
    see = f"see {remains.directory}"
    if remains.ending.reason == _NEVER_SATISFIED:
        return "Submit the call again with another dependency, or with none."
    if not remains.started:
        if cls in {JobCancelled, JobTimeout, NodeFailed, JobPreempted}:
            return "Submit the call again."
        if JobState.COMPLETED in {remains.state, remains.ending.state}:
            return (
                "Take out of setup= what ends the script, such as 'exec', or check "
                f"that the nodes share {remains.directory.parents[3]} with this "
                "machine."
            )
        return (
            "Check that the nodes share the directory "
            f"{remains.directory.parents[3]} with this machine, and that it has room "
            "for more files ('df' and 'df -i' tell), then submit it again."
        )
    if not remains.worker_started:
        return "Look at the options python= and setup= of the SlurmExecutor."
    if remains.death is not None and remains.death.error:
        return (
            f"See that the nodes can use {remains.directory.parents[3]}, and that it "
            "has room for more files ('df', 'df -i' and 'quota' tell), or choose "
            'another directory, SlurmExecutor(directory="..."), and submit the call '
            "again."
        )
    if cls is JobTimeout:
        return f'Ask for more time, SlurmExecutor(time="..."), or {see}.'
    if cls is JobOutOfMemory:
        return f'Ask for more memory, SlurmExecutor(mem="..."), or {see}.'
    if cls in {NodeFailed, JobPreempted, JobCancelled, JobLost}:
        return f"Submit the call again, or {see}."
    return f"For what it printed {see}."
