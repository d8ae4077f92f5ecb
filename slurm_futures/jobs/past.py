"""Futures of the calls of a run that is read back from disk."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from slurm_futures.calls.outcome import Outcome, initializer_failed, load_outcome
from slurm_futures.calls.past_future import PastFuture
from slurm_futures.calls.stored import CallPlace
from slurm_futures.errors import JobFailed, JobLost, JobState, OutcomeNotReadable
from slurm_futures.jobs.closer import remains_of
from slurm_futures.jobs.diagnosis import diagnose
from slurm_futures.jobs.job import Job
from slurm_futures.node.formats import NOT_BEGUN, USAGE, VALUE
from slurm_futures.runs.files import ForeignFileError
from slurm_futures.runs.finished import FinishedDirectory, Record
from slurm_futures.runs.history import Ending, History, StoredCall
from slurm_futures.schedulers.base import Ending as JobEnding
from slurm_futures.schedulers.base import JobId
from slurm_futures.schedulers.sbatch_options import SbatchOptions


def past_future(history: History, call: StoredCall) -> PastFuture:
    """Return the future of a call that is over."""
    job = job_of(history, call, closed=True)
    load = partial(read_outcome, history, call, job)
    return PastFuture(
        None if is_withdrawn(history, call) else load,
        job,
        str(call.calls.facts.get("label", "")),
        CallPlace(call.calls.path, call.job, call.position),
    )


def is_withdrawn(history: History, call: StoredCall) -> bool:
    """Whether its own program has cancelled a call that had not begun."""
    return call.ending is Ending.CANCELLED and history.unit_of(call) is None


def job_of(history: History, call: StoredCall, *, closed: bool) -> Job | None:
    """Return the job that runs a call, or has run it, as far as that is known."""
    unit = history.unit_of(call)
    if unit is None:
        return None
    submission, index = unit
    facts = history.facts_of(submission)
    if facts.get("job_id") is None:
        return None
    array = JobId(int(facts["job_id"]), None, facts.get("cluster"))
    is_done = call.ending is Ending.DONE
    ended = JobState.COMPLETED if is_done else JobState.FAILED
    return Job(
        job_id=array.task(index) if facts["jobs"] > 1 else array,
        index=index,
        submission=submission,
        waiter=None,
        submitted_at=-math.inf,
        state=ended if closed else JobState.PENDING,
        started=is_done or (closed and submission.job(index).exists()),
        death=submission.read_death(index) if closed else None,
        closed=closed,
    )


def read_outcome(history: History, call: StoredCall, job: Job | None) -> Outcome:
    """Read what a call has left."""
    try:
        records = _read(call)
    except ForeignFileError as error:
        return _failed(OutcomeNotReadable(f"The outcome is refused: {error}."))
    except OSError as error:
        return _failed(OutcomeNotReadable(f"The outcome cannot be read: {error}."))
    found, usage = None, b""
    for position, kind, payload in records:
        if kind == USAGE and position == call.position:
            usage = payload
        if kind in {NOT_BEGUN, USAGE}:
            continue
        outcome = load_outcome(kind, payload)
        if outcome.initializer_failed and outcome.exception is not None:
            return _failed(initializer_failed(outcome.exception))
        if position == call.position:
            found = replace(outcome, usage=usage)
            if kind == VALUE:
                break
    return found or _failed(_without_outcome(history, call, job))


def read_usages(
    history: History, calls: Iterable[StoredCall]
) -> Iterator[tuple[SbatchOptions, bytes]]:
    """Yield what calls have used, and what their jobs had asked for."""
    read: tuple[FinishedDirectory, int] | None = None
    records: list[Record] = []
    for call in calls:
        place = call.calls.finished, call.place
        if place != read:
            read, records = place, []
            with contextlib.suppress(OSError):  # nothing is known of it
                records = _read(call)
        unit = history.unit_of(call)
        facts = {} if unit is None else history.facts_of(unit[0])
        options = SbatchOptions(tuple(facts.get("options", {}).items()))
        for position, kind, payload in records:
            if kind == USAGE and position == call.position:
                yield options, payload


def _read(call: StoredCall) -> list[Record]:
    finished = call.calls.finished
    try:
        return finished.read(call.place)
    except FileNotFoundError:
        return finished.read_left(call.place)


def _failed(error: BaseException) -> Outcome:
    return Outcome(exception=error)


def _without_outcome(
    history: History, call: StoredCall, job: Job | None
) -> BaseException:
    """Say why there is no outcome of a call."""
    if call.ending is Ending.DONE:
        return OutcomeNotReadable(
            "The value of the call was deleted with the other files of its job, which "
            'had ended well. Keep them with SlurmExecutor(keep="always").'
        )
    if call.is_published:
        return JobFailed(
            "The call did not begin: its job was to end after the calls before it. "
            "Submit it again."
        )
    lost = None if job is None else history.lost.get((job.submission.path, job.index))
    if lost is not None:
        return lost.copy()
    if job is None:
        return JobLost(
            f"The call has left no outcome in {call.calls.home.path}, and it is not "
            "known which job has run it. Submit it again."
        )
    options = history.facts_of(job.submission)["options"]
    return diagnose(remains_of(job, JobEnding(), options, listed=True))
