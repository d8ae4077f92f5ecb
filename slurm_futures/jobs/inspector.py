"""Looks at the files of one submission after the other, and decides about its jobs.

Used in the poller's thread, which says when. What happens to calls is the part of
`closer.py`, and the rules are those of `judge.py`.
"""

from __future__ import annotations

import time

from slurm_futures.errors import JobLost, JobState
from slurm_futures.jobs.canceller import Canceller
from slurm_futures.jobs.closer import Closer
from slurm_futures.jobs.diagnosis import find_cause
from slurm_futures.jobs.explainer import Explainer
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.judge import UNLISTED, Verdict, judge
from slurm_futures.jobs.lingering import LingeringJobs
from slurm_futures.jobs.look_pace import LookPace
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.queue_cache import Subscription
from slurm_futures.jobs.timing import Timing
from slurm_futures.node.formats import block_of
from slurm_futures.runs.submission import Death, Ends
from slurm_futures.schedulers.base import Ending, is_at_home

_SIGTERM_EXIT_CODE = 128 + 15


class Inspector:
    """Looks at submissions.

    Args:
        closer: ends jobs and settles their calls.
        pace: hears of news, and what listings cost.
        timing: how long to wait for what.
        canceller: takes jobs that should end.
        subscription: asks the scheduler when it has something to say about a job.
        explainer: takes a job that is over for an unknown cause; `bury` follows.
        lingering: sees that jobs end whose calls are over.
    """

    def __init__(
        self,
        closer: Closer,
        pace: LookPace,
        timing: Timing,
        canceller: Canceller,
        subscription: Subscription,
        explainer: Explainer,
        lingering: LingeringJobs,
    ) -> None:
        self._closer = closer
        self._pace = pace
        self._timing = timing
        self._canceller = canceller
        self._subscription = subscription
        self._explainer = explainer
        self._lingering = lingering

    def look_at(self, submission: OpenSubmission, look_at_started: bool) -> None:
        """Settle what is over of a submission.

        Args:
            submission: the submission.
            look_at_started: whether to find out also which jobs have started.
        """
        ends = self._list(submission, look_at_started)
        if ends is None:
            return
        for index in submission.jobs.keys() & ends.finished:
            # Settling one job may close others: the initializer failed.
            if index in submission.jobs:
                self._finish(submission, submission.jobs[index])
        for index in submission.jobs.keys() & ends.died:
            self._note_death(submission, submission.jobs[index])
        for index in (submission.jobs.keys() & ends.ending) - submission.told_to_end:
            self._note_ending(submission, submission.jobs[index])
        submission.told_to_end = ends.ending
        for index in list(submission.suspects):
            if index in submission.jobs:
                if index not in ends.died and index not in ends.ending:
                    submission.jobs[index].begin_anew()  # which has removed its mark
                self._decide(submission, submission.jobs[index])
        self._lingering.note_marks(submission, ends)

    def _list(self, submission: OpenSubmission, look_at_started: bool) -> Ends | None:
        """List the outcomes of a submission, and note what that costs.

        Returns:
            None if it is not there, or cannot be listed now.
        """
        began = time.monotonic()
        try:
            found = submission.directory.list_ends(submission.open_blocks)
            submission.gone_since = None
            if look_at_started:
                submission.note_start(found.begun)
        except FileNotFoundError:
            self._note_gone(submission, began)
            return None
        except OSError as error:
            self._note_unlisted(submission, began, error)
            return None
        finally:
            self._pace.note_cost(time.monotonic() - began)
        submission.outage.end()
        return found

    def _note_unlisted(
        self, submission: OpenSubmission, now: float, error: OSError
    ) -> None:
        """Note that the directory of a submission cannot be listed.

        That may pass: only jobs fail of which the scheduler has said, in good snapshots
        of all this time, that they are over for longer than the grace.
        """
        unlisted_since = submission.outage.note(
            f"job {submission.job_id}", now, error, self._timing
        )
        for job in list(submission.jobs.values()):
            if job.over_since is not None:
                since = max(job.over_since, unlisted_since)
                if submission.snapshot_at - since >= self._timing.grace:
                    self._closer.fail(submission, job, _not_readable(job, error))

    def _note_gone(self, submission: OpenSubmission, now: float) -> None:
        """Note that the directory of a submission is not there."""
        if submission.gone_since is None:
            submission.gone_since = now
        if now - submission.gone_since < min(
            self._timing.grace, self._timing.gone_grace
        ):
            return
        path = submission.directory.path
        self._canceller.cancel(submission.jobs.values())
        self._closer.fail_all(
            submission,
            JobLost(
                f"The results of job {submission.job_id} are lost.\nThe directory "
                f"{path} was deleted while its jobs were open.\nSubmit the calls "
                "again, in a directory that is not cleaned up: "
                'SlurmExecutor(directory="...").'
            ),
        )

    def _note_ending(self, submission: OpenSubmission, job: Job) -> None:
        """Note that Slurm told the job to end, and that its calls did so."""
        state = find_cause(submission.directory.read_log(str(job.job_id)))
        if state in {JobState.CANCELLED, JobState.TIMEOUT}:
            # Slurm's last word. After a preemption, say, the job may run again.
            job.death = Death(_SIGTERM_EXIT_CODE)
            job.state = state
            submission.suspects.add(job.index)
        self._expect_change()

    def _finish(self, submission: OpenSubmission, job: Job) -> None:
        """End a job that has left its mark: mostly its outcomes are all there."""
        if job.published_at is None:
            self._pace.note_news()
            self._deliver(submission, job)
            if not job.closed:
                job.published_at = time.monotonic()
                submission.suspects.add(job.index)

    def _note_death(self, submission: OpenSubmission, job: Job) -> None:
        """Note that the worker of a job has ended without publishing its outcomes."""
        if job.death is not None:
            return
        death = submission.directory.read_death(job.index)
        if death is None or death == job.old_death:
            return
        if death.attempt < job.directory.attempt():
            return  # of an attempt that lived on after Slurm had lost it
        job.death, job.death_at = death, time.monotonic()
        submission.suspects.add(job.index)
        if find_cause(submission.directory.read_log(str(job.job_id))) is not None:
            job.over_since = job.death_at  # Slurm has said already why
        self._expect_change()

    def _decide(self, submission: OpenSubmission, job: Job) -> None:
        verdict = judge(job, time.monotonic(), submission.snapshot_at, self._timing)
        if verdict is Verdict.SETTLE:
            self._deliver(submission, job)
        elif job.being_explained or time.monotonic() < job.put_off_until:
            return
        elif verdict is Verdict.FAIL:
            self._ask_why(submission, job)
        else:
            self._closer.restore(job)

    def _ask_why(self, submission: OpenSubmission, job: Job) -> None:
        try:
            self._closer.withdraw(job)
        except OSError as error:
            self._put_off(submission, job, error)
            return
        self._explainer.put(submission, job)

    def _deliver(self, submission: OpenSubmission, job: Job) -> None:
        try:
            self._closer.deliver(submission, job)
        except OSError as error:
            job.problem = str(error)
        if job.may_restart:
            self._explainer.put(submission, job)

    def _expect_change(self) -> None:
        """Look and ask often again: the scheduler has something to say."""
        self._pace.expect_change()
        self._subscription.ask(0)

    def bury(self, submission: OpenSubmission, job: Job, ending: Ending) -> None:
        """Fail the calls of a job whose end is explained, unless there is news."""
        try:
            self._bury(submission, job, ending)
            job.unreadable_since = None
        except OSError as error:
            self._put_off(submission, job, error)

    def _put_off(self, submission: OpenSubmission, job: Job, error: OSError) -> None:
        """Decide later about a job that is over: its files cannot be read now.

        What is there must not be lost for an error that passes. If it lasts for the
        grace, the calls fail.
        """
        now = time.monotonic()
        if job.unreadable_since is None:
            job.unreadable_since = now
        job.put_off_until = now + self._timing.put_off
        if now - job.unreadable_since >= self._timing.grace:
            self._closer.fail(submission, job, _not_readable(job, error))

    def _bury(self, submission: OpenSubmission, job: Job, ending: Ending) -> None:
        # The explanation took its time: look once more.
        ends = submission.directory.list_ends([block_of(job.index)])
        if job.index in ends.finished:
            self._finish(submission, job)
        elif job.index in ends.died:
            self._note_death(submission, job)
        elif job.index not in ends.ending:
            job.begin_anew()
        if job.closed:
            return
        alive = _find_alive(job, ending)
        if alive is not None:
            job.see(alive, submission.snapshot_at)
        verdict = judge(job, time.monotonic(), submission.snapshot_at, self._timing)
        if verdict is Verdict.SETTLE:
            self._deliver(submission, job)
        elif verdict is Verdict.FAIL:
            self._closer.bury(submission, job, ending)
        else:
            self._closer.restore(job)


def _find_alive(job: Job, ending: Ending) -> JobState | None:
    """Return the state of a job that squeue left out, if it has not ended.

    At some sites squeue answers from a cache, and is behind: slurmctld knows better.
    """
    if ending.state is None or ending.state in UNLISTED:
        return ending.state
    is_ours = is_at_home(job.submission.path, ending.directory, ending.command)
    is_missed = job.absences > 0 and not job.left_mark
    return ending.state if is_ours and is_missed and not ending.state.ended else None


def _not_readable(job: Job, error: OSError) -> JobLost:
    return JobLost(
        f"The results of job {job.job_id} are lost.\nThe job is over, and its files "
        f"cannot be read: {error}.\nMend {job.submission.path} or choose another "
        'directory, SlurmExecutor(directory="..."), and submit the call again.',
        job_id=str(job.job_id),
        state=job.state,
        directory=job.directory.path,
    )
