"""Watches the open calls of a run that another program may own, and changes nothing.

Looks at the files as `runs/history.py` reads them, and asks squeue like a poller. What
has an outcome is settled; of jobs that vanish without one `judge.py` decides. A call
that its owner submits again before it is settled here is waited for as before.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
import weakref
from pathlib import Path
from typing import Any

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.late_callbacks import invoke_callbacks
from slurm_futures.calls.outcome import Outcome
from slurm_futures.calls.stored import CallPlace
from slurm_futures.errors import JobLost, SlurmFuturesError, words_of
from slurm_futures.jobs.closer import remains_of
from slurm_futures.jobs.diagnosis import diagnose
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.judge import Verdict, judge
from slurm_futures.jobs.look_pace import LookPace
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.past import is_withdrawn, job_of, read_outcome
from slurm_futures.jobs.queue_cache import Subscription
from slurm_futures.jobs.threads import ThreadGroup, WorkThread
from slurm_futures.jobs.timing import Timing
from slurm_futures.runs.history import Ending, History, StoredCall
from slurm_futures.schedulers.base import Ending as JobEnding
from slurm_futures.schedulers.base import JobId, Scheduler, Snapshot
from slurm_futures.schedulers.sbatch_options import Kind, SbatchOptions

logger = logging.getLogger("slurm_futures")

#: A look costs more with each call of the run: it has this share of the time at most.
_SHARE = 0.2


class Observer:
    """Settles the futures of open calls, in a thread of its own.

    It refers to the futures weakly, and its thread ends with the last of them.

    Args:
        history: of the run, for this thread alone.
        scheduler: where the jobs are; None: nobody can be asked about them.
        timing: when to look, and how long to wait for what.
    """

    def __init__(
        self, history: History, scheduler: Scheduler | None, timing: Timing
    ) -> None:
        self._history = history
        self._scheduler = scheduler
        self._timing = timing
        self._group = ThreadGroup()
        # A program that only looks need not wait for the jobs when it ends.
        self._thread: WorkThread[Snapshot | None] = WorkThread(
            self._run, "slurm_futures-observer", self._group, daemon=True
        )
        self._inbox = self._thread.inbox
        self._subscription = (
            None if scheduler is None else Subscription(scheduler, self._inbox, timing)
        )
        self._futures: dict[int, weakref.ref[SlurmFuture[Any]]] = {}
        self._closed = False
        # From here on: state of the thread.
        self._pace = LookPace(timing)
        self._cost = 0.0
        self._open: dict[Path, OpenSubmission] = {}
        self._gone_since: float | None = None

    def watch(self, number: int, future: SlurmFuture[Any]) -> None:
        """Settle the future of this call when it is over; called from any thread."""
        self._futures[number] = weakref.ref(future)
        self._thread.put(None)

    def close(self) -> None:
        """Settle nothing any more; called from any thread."""
        self._closed = True
        self._inbox.put(None)

    def join(self) -> None:
        """Wait until its thread has ended, after `close`."""
        self._group.join()

    # The thread.

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            logger.exception("the observer met an error that should not happen")
            failure = SlurmFuturesError(
                "The run is not watched any more, since slurm_futures met an error "
                f"that should not happen. It was {type(error).__name__}: "
                f"{words_of(error)}. Please report it, and open the run again."
            )
            for future in self._living().values():
                self._settle(future, Outcome(exception=failure.copy()))
            raise
        finally:
            if self._subscription is not None:
                self._subscription.drop()

    def _work(self) -> None:
        self._pace.note_news()
        while futures := self._living():
            self._look(futures)
            futures.clear()  # whoever drops a future drops it
            if self._living():
                self._receive(max(self._pace.delay(), self._cost / _SHARE))
        with contextlib.suppress(queue.Empty):
            while True:
                self._inbox.get_nowait()

    def _living(self) -> dict[int, SlurmFuture[Any]]:
        """Return the futures that somebody waits for."""
        found = {}
        for number, ref in list(self._futures.items()):
            future = ref()
            if future is None or future.done():
                del self._futures[number]
            elif not self._closed:
                found[number] = future
        return found

    def _receive(self, timeout: float) -> None:
        with contextlib.suppress(queue.Empty):
            message = self._inbox.get(timeout=timeout)
            while True:
                if message is not None:
                    self._absorb(message)
                message = self._inbox.get_nowait()

    def _look(self, futures: dict[int, SlurmFuture[Any]]) -> None:
        began = time.monotonic()
        try:
            calls = self._history.look()
            self._gone_since = None
        except FileNotFoundError:
            self._note_gone(futures, began)
            return
        except (OSError, SlurmFuturesError) as error:
            logger.debug("%s", error)
            return
        self._keep({n: calls[n] for n in futures if n in calls})
        for number, future in futures.items():
            self._look_at(future, calls.get(number))
        self._cost = time.monotonic() - began
        if self._subscription is not None and self._open:
            self._subscription.ask_later(self._pace.query_factor)
            self._subscription.cache.revive()

    def _note_gone(self, futures: dict[int, SlurmFuture[Any]], now: float) -> None:
        self._gone_since = self._gone_since or now
        if now - self._gone_since >= self._timing.gone_grace:
            for future in futures.values():
                self._settle(future, Outcome(exception=self._deleted()))

    def _look_at(self, future: SlurmFuture[Any], call: StoredCall | None) -> None:
        if call is None:
            self._settle(future, Outcome(exception=self._deleted()))
            return
        job = self._find_job(call)
        if job is not None and future._job is not job:
            future._add_job(job)
        future._place = CallPlace(call.calls.path, call.job, call.position)
        if call.ending.is_over and self._is_certain(call, job):
            withdrawn = is_withdrawn(self._history, call)
            outcome = None if withdrawn else read_outcome(self._history, call, job)
            self._settle(future, outcome)
        elif job is not None and call.ending is Ending.RUNNING:
            job.note_start()

    def _deleted(self) -> JobLost:
        return JobLost(
            f"The outcome of the call was deleted in {self._history.run.path}, since "
            "its program has ended. Keep outcomes with "
            'SlurmExecutor(keep="always").'
        )

    def _settle(self, future: SlurmFuture[Any], outcome: Outcome | None) -> None:
        self._pace.note_news()
        try:
            if outcome is None:
                future._end_cancel()
                invoke_callbacks(future)
            else:
                future._usage = outcome.usage
                future._settle(0, outcome)
        except BaseException:
            logger.exception("%r: a callback raised", future)

    # Jobs.

    def _keep(self, calls: dict[int, StoredCall]) -> None:
        """Know the jobs of these calls, and no others."""
        wanted: dict[Path, set[int]] = {}
        for call in calls.values():
            unit = self._history.unit_of(call)
            if unit is not None:
                wanted.setdefault(unit[0].path, set()).add(unit[1])
                self._add(call)
        for path, submission in list(self._open.items()):
            for index in submission.jobs.keys() - wanted.get(path, set()):
                submission.close(index)
            if not submission.is_open:
                del self._open[path]

    def _add(self, call: StoredCall) -> None:
        if self._find_job(call) is not None:
            return
        job = job_of(self._history, call, closed=False)
        if job is None:
            return
        submission = self._open.get(job.submission.path)
        if submission is None:
            facts = self._history.facts_of(job.submission)
            options = SbatchOptions(tuple(facts["options"].items()))
            kind = Kind(options, facts.get("cwd", "/"))
            array = JobId(job.job_id.number, None, job.job_id.cluster)
            submission = OpenSubmission(job.submission, array, kind, "", {})
            self._open[job.submission.path] = submission
        submission.add(job)
        job.may_run_again = bool(submission.kind.options.get("requeue"))
        self._pace.expect_change()

    def _find_job(self, call: StoredCall) -> Job | None:
        unit = self._history.unit_of(call)
        if unit is None or unit[0].path not in self._open:
            return None
        return self._open[unit[0].path].jobs.get(unit[1])

    def _is_certain(self, call: StoredCall, job: Job | None) -> bool:
        """Whether a call that seems to be over will not be run by its job once more."""
        if call.is_published or job is None or self._subscription is None:
            return True
        if (job.submission.path, job.index) in self._history.lost:
            return True
        if job.death is None:
            job.death = job.submission.read_death(job.index)
            job.death_at = time.monotonic()
        submission = self._open[job.submission.path]
        submission.suspects.add(job.index)
        now = time.monotonic()
        verdict = judge(job, now, submission.snapshot_at, self._timing)
        return verdict is Verdict.FAIL

    def _absorb(self, snapshot: Snapshot) -> None:
        """Take in what a snapshot says, and find the jobs that are over for it."""
        news = False
        for submission in self._open.values():
            if submission.job_id.cluster in snapshot.silent:
                continue
            rows = snapshot.jobs.get(submission.job_id, ())
            news |= submission.compare(rows, snapshot.started_at)
            over = [submission.jobs[each] for each in submission.suspects]
            lost = [
                job
                for job in over
                if judge(job, time.monotonic(), snapshot.started_at, self._timing)
                is Verdict.FAIL
            ]
            if lost:
                self._explain(submission, lost)
        self._pace.note_answer(changed=news)

    def _explain(self, submission: OpenSubmission, jobs: list[Job]) -> None:
        """Note how jobs ended that left no outcome."""
        assert self._scheduler is not None, "it has given the snapshot"
        endings = {}
        try:
            endings = dict(self._scheduler.explain([job.job_id for job in jobs]))
        except Exception as error:  # noqa: BLE001  (only fewer facts in the error)
            logger.info("nothing more is known of %d jobs: %s", len(jobs), error)
        for job in jobs:
            ending = endings.get(job.job_id, JobEnding())
            if ending.state is not None and not ending.state.ended:
                continue  # squeue was behind
            remains = remains_of(
                job,
                ending,
                submission.kind.options,
                listed=submission.listed,
                grace=self._timing.grace,
            )
            self._history.lost[job.submission.path, job.index] = diagnose(remains)
