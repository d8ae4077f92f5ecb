"""Looks at the files of one submission after the other, and decides about its jobs.

Used in the poller's thread, which says when. What happens to calls is the part of
`closer.py`, and the rules are those of `judge.py`.
"""

from __future__ import annotations

import time

from slurm_futures.errors import JobLost, JobState
from slurm_futures.jobs.canceller import Canceller
from slurm_futures.jobs.closer import JobEndings
from slurm_futures.jobs.diagnosis import find_cause
from slurm_futures.jobs.explainer import Explainer
from slurm_futures.jobs.judge import UNLISTED, Verdict, judge
from slurm_futures.jobs.look_pace import Pace
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.queue_cache import Subscription
from slurm_futures.jobs.timing import Timing
from slurm_futures.jobs.track import Track
from slurm_futures.node.formats import block_of
from slurm_futures.runs.submission import Death, Ends
from slurm_futures.schedulers.base import Ending

_SIGTERM_EXIT_CODE = 128 + 15


class Inspector:
    """Looks at submissions.

    Args:
        endings: ends jobs and settles their calls.
        pace: hears of news, and what listings cost.
        timing: how long to wait for what.
        canceller: takes jobs that should end.
        subscription: asks the scheduler when it has something to say about a job.
        explainer: takes a job that is over for an unknown cause; `bury` follows.
    """

    def __init__(
        self,
        endings: JobEndings,
        pace: Pace,
        timing: Timing,
        canceller: Canceller,
        subscription: Subscription,
        explainer: Explainer,
    ) -> None:
        self._endings = endings
        self._pace = pace
        self._timing = timing
        self._canceller = canceller
        self._subscription = subscription
        self._explainer = explainer

    def look_at(self, opened: OpenSubmission, look_at_started: bool) -> None:
        """Settle what is over of a submission.

        Args:
            opened: the submission.
            look_at_started: whether to find out also which jobs have started.
        """
        ends = self._list(opened, look_at_started)
        if ends is None:
            return
        for index in opened.tracks.keys() & ends.finished:
            # Settling one job may close others: the initializer failed.
            if index in opened.tracks:
                self._finish(opened, opened.tracks[index])
        for index in opened.tracks.keys() & ends.died:
            self._note_death(opened, opened.tracks[index])
        for index in (opened.tracks.keys() & ends.ending) - opened.told_to_end:
            self._note_ending(opened, opened.tracks[index])
        opened.told_to_end = ends.ending
        for index in list(opened.suspects):
            if index in opened.tracks:
                if index not in ends.died and index not in ends.ending:
                    opened.tracks[index].begin_anew()  # which has removed its mark
                self._decide(opened, opened.tracks[index])

    def _list(self, opened: OpenSubmission, look_at_started: bool) -> Ends | None:
        """List the outcomes of a submission, and note what that costs.

        Returns:
            None if it is not there, or cannot be listed now.
        """
        began = time.monotonic()
        try:
            found = opened.submission.list_ends(opened.open_blocks)
            opened.gone_since = None
            if look_at_started:
                opened.note_start(found.begun)
        except FileNotFoundError:
            self._note_gone(opened, began)
            return None
        except OSError as error:
            self._note_unlisted(opened, began, error)
            return None
        finally:
            self._pace.note_cost(time.monotonic() - began)
        opened.outage.end()
        return found

    def _note_unlisted(
        self, opened: OpenSubmission, now: float, error: OSError
    ) -> None:
        """Note that the directory of a submission cannot be listed.

        That may pass: only jobs fail of which the scheduler has said, in good snapshots
        of all this time, that they are over for longer than the grace.
        """
        unlisted_since = opened.outage.note(
            f"job {opened.job_id}", now, error, self._timing
        )
        for track in list(opened.tracks.values()):
            if track.over_since is not None:
                since = max(track.over_since, unlisted_since)
                if opened.snapshot_at - since >= self._timing.grace:
                    self._endings.fail(opened, track, _not_readable(track, error))

    def _note_gone(self, opened: OpenSubmission, now: float) -> None:
        """Note that the directory of a submission is not there."""
        if opened.gone_since is None:
            opened.gone_since = now
        if now - opened.gone_since < min(self._timing.grace, self._timing.gone_grace):
            return
        path = opened.submission.path
        self._canceller.cancel(opened.tracks.values())
        self._endings.fail_all(
            opened,
            JobLost(
                f"The results of job {opened.job_id} are lost.\nThe directory {path} "
                "was deleted while its jobs were open.\nSubmit the calls again, in a "
                'directory that is not cleaned up: SlurmExecutor(directory="...").'
            ),
        )

    def _note_ending(self, opened: OpenSubmission, track: Track) -> None:
        """Note that Slurm told the job to end, and that its calls did so."""
        state = find_cause(opened.submission.read_log(str(track.job_id)))
        if state in {JobState.CANCELLED, JobState.TIMEOUT}:
            # Slurm's last word. After a preemption, say, the job may run again.
            track.death = Death(_SIGTERM_EXIT_CODE)
            track.state = state
            opened.suspects.add(track.index)
        self._expect_change()

    def _finish(self, opened: OpenSubmission, track: Track) -> None:
        """End a job that has left its mark: mostly its outcomes are all there."""
        if track.published_at is None:
            self._pace.note_news()
            self._deliver(opened, track)
            if not track.closed:
                track.published_at = time.monotonic()
                opened.suspects.add(track.index)

    def _note_death(self, opened: OpenSubmission, track: Track) -> None:
        """Note that the worker of a job has ended without publishing its outcomes."""
        if track.death is not None:
            return
        death = opened.submission.read_death(track.index)
        if death is None or death == track.old_death:
            return
        if death.attempt < track.directory.attempt():
            return  # of an attempt that lived on after Slurm had lost it
        track.death, track.death_at = death, time.monotonic()
        opened.suspects.add(track.index)
        if find_cause(opened.submission.read_log(str(track.job_id))) is not None:
            track.over_since = track.death_at  # Slurm has said already why
        self._expect_change()

    def _decide(self, opened: OpenSubmission, track: Track) -> None:
        verdict = judge(track, time.monotonic(), opened.snapshot_at, self._timing)
        if verdict is Verdict.SETTLE:
            self._deliver(opened, track)
        elif track.being_explained or time.monotonic() < track.put_off_until:
            return
        elif verdict is Verdict.FAIL:
            self._give_up(opened, track)
        else:
            self._endings.restore(track)

    def _give_up(self, opened: OpenSubmission, track: Track) -> None:
        try:
            self._endings.withdraw(track)
        except OSError as error:
            self._put_off(opened, track, error)
            return
        self._explainer.put(opened, track)

    def _deliver(self, opened: OpenSubmission, track: Track) -> None:
        try:
            self._endings.deliver(opened, track)
        except OSError as error:
            track.problem = str(error)

    def _expect_change(self) -> None:
        """Look and ask often again: the scheduler has something to say."""
        self._pace.expect_change()
        self._subscription.ask(0)

    def bury(self, opened: OpenSubmission, track: Track, ending: Ending) -> None:
        """Fail the calls of a job whose end is explained, unless there is news."""
        try:
            self._bury(opened, track, ending)
            track.unreadable_since = None
        except OSError as error:
            self._put_off(opened, track, error)

    def _put_off(self, opened: OpenSubmission, track: Track, error: OSError) -> None:
        """Decide later about a job that is over: its files cannot be read now.

        What is there must not be lost for an error that passes. If it lasts for the
        grace, the calls fail.
        """
        now = time.monotonic()
        if track.unreadable_since is None:
            track.unreadable_since = now
        track.put_off_until = now + self._timing.put_off
        if now - track.unreadable_since >= self._timing.grace:
            self._endings.fail(opened, track, _not_readable(track, error))

    def _bury(self, opened: OpenSubmission, track: Track, ending: Ending) -> None:
        # The explanation took its time: look once more.
        ends = opened.submission.list_ends([block_of(track.index)])
        if track.index in ends.finished:
            self._finish(opened, track)
        elif track.index in ends.died:
            self._note_death(opened, track)
        elif track.index not in ends.ending:
            track.begin_anew()
        if track.closed:
            return
        alive = _find_alive(track, ending)
        if alive is not None:
            track.see(alive, opened.snapshot_at)
        verdict = judge(track, time.monotonic(), opened.snapshot_at, self._timing)
        if verdict is Verdict.SETTLE:
            self._deliver(opened, track)
        elif verdict is Verdict.FAIL:
            self._endings.bury(opened, track, ending)
        else:
            self._endings.restore(track)


def _find_alive(track: Track, ending: Ending) -> JobState | None:
    """Return the state of a job that squeue left out, if it has not ended.

    At some sites squeue answers from a cache, and is behind: slurmctld knows better.
    """
    if ending.state is None or ending.state in UNLISTED:
        return ending.state
    is_ours = ending.directory == str(track.submission.path)
    is_missed = track.absences > 0 and not track.left_mark
    return ending.state if is_ours and is_missed and not ending.state.ended else None


def _not_readable(track: Track, error: OSError) -> JobLost:
    return JobLost(
        f"The results of job {track.job_id} are lost.\nThe job is over, and its files "
        f"cannot be read: {error}.\nMend {track.submission.path} or choose another "
        'directory, SlurmExecutor(directory="..."), and submit the call again.',
        job_id=str(track.job_id),
        state=track.state,
        directory=track.directory.path,
    )
