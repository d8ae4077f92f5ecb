"""The thread that settles futures: look, decide, act.

    inbox  ----+
    files  ----+--> look --> judge --> act: settle futures, cancel, explain, resubmit
    queue  ----+

Rules:
- Only this thread settles futures of jobs, and it holds no lock while it does: the
  callbacks of a future may submit.
- What one submission does never ends the loop. If the thread ends all the same, every
  open future fails with the cause.
- Nothing here waits for a command of the scheduler: snapshots and explanations arrive
  in the inbox, from threads of their own.
- The thread exists only while a future is open. It looks at files after 1 % of the
  time since something last happened (0.05 s to 1 s), so that a result is noticed
  within 1 % of the time it took.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from slurm_futures.endings import JobEndings
from slurm_futures.errors import JobLost, SlurmFuturesError
from slurm_futures.open_submission import OpenSubmission
from slurm_futures.pending import PendingJobs
from slurm_futures.post_mortem import find_cause
from slurm_futures.schedulers.base import Ending, JobState, Scheduler, Snapshot
from slurm_futures.schedulers.queue_cache import QueueCache
from slurm_futures.threads import Courier, join_other
from slurm_futures.tracking import UNLISTED, Marker, Track, Verdict, judge
from slurm_futures.worker import block_of

if TYPE_CHECKING:
    from slurm_futures.schedulers.base import JobId

logger = logging.getLogger("slurm_futures")

#: Seconds between two looks at files: shortest, longest, and as a share of the time
#: since the last news; and how many times the duration of a look must pass till the
#: next one, which bounds the load on a slow file system.
_SHORTEST_LOOK, _LONGEST_LOOK, _LOOK_SHARE = 0.05, 1.0, 0.01
_LOOK_COST_FACTOR = 20
#: Seconds between two listings of the job directories, which tell what has started.
_STARTED_INTERVAL = 0.5
#: Seconds until a directory that is not there counts as deleted.
_GONE_GRACE = 10.0
_SIGTERM_EXIT_CODE = 128 + 15
#: squeue is asked less often while its answers bring no change, up to this factor.
_LONGEST_QUERY_FACTOR = 12


@dataclass(frozen=True, slots=True)
class _Explained:
    """What the scheduler still knew about jobs that are over."""

    endings: dict[JobId, Ending]
    tracks: list[tuple[OpenSubmission, Track]]


class Watched(Protocol):
    """What the poller looks at besides submissions: a queue of calls."""

    @property
    def is_open(self) -> bool:
        """Whether futures wait."""

    def look(self) -> bool:
        """Settle what is over; return whether there was any."""

    def stop(self, error: SlurmFuturesError) -> None:
        """Fail all that is open."""


@dataclass(frozen=True, slots=True)
class _Watch:
    watched: Watched


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[[], None]


_Message = (
    OpenSubmission | Track | Snapshot | _Explained | SlurmFuturesError | _Watch | _Call
)


class Poller:
    """Watches the jobs of one executor until each of their calls has an outcome.

    Args:
        scheduler: where the jobs run.
        endings: ends jobs and settles their calls.
        grace: seconds to wait for the files of a job that is over.
        pending_timeout: seconds after which a job that is pending fails; None: never.
        cancel: takes the ids of jobs that should end.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        endings: JobEndings,
        grace: float,
        pending_timeout: float | None,
        cancel: Callable[[list[JobId]], None],
    ) -> None:
        self._scheduler = scheduler
        self._endings = endings
        self._cache = QueueCache.of(scheduler)
        self._grace = grace
        self._cancel = cancel
        self._pending = PendingJobs(pending_timeout)
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._explainer = Courier(self._explain, "slurm_futures-explainer")
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # From here on: state of the thread.
        self._open: list[OpenSubmission] = []
        self._watched: list[Watched] = []
        self._news_at = 0.0
        self._look_costs: deque[float] = deque(maxlen=4)
        self._look_cost = 0.0
        self._started_look_at = 0.0
        self._snapshot_at = -float("inf")
        self._query_factor = 1.0

    def watch(self, opened: OpenSubmission) -> None:
        """Begin to watch a submission; called from the submitter's thread."""
        self._put(opened)

    def watch_queue(self, watched: Watched) -> None:
        """Begin to look at a queue, or go on with it; called from any thread."""
        self._put(_Watch(watched))

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in the poller's thread soon; called from any thread."""
        self._put(_Call(function))

    def _put(self, message: _Message) -> None:
        with self._lock:
            self._inbox.put(message)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="slurm_futures-poller"
                )
                self._thread.start()

    def drop(self, track: Track) -> None:
        """Stop to watch a job whose future was cancelled; called from any thread."""
        self._inbox.put(track)

    def stop(self, error: SlurmFuturesError) -> None:
        """Cancel all jobs and fail their futures; called from any thread."""
        self._put(error)

    def join(self) -> bool:
        """Wait until nothing is open; return whether there was a thread to wait for."""
        with self._lock:
            thread = self._thread
        return join_other(thread)

    # The thread.

    def _run(self) -> None:
        try:
            self._news_at = time.monotonic()
            while self._stay():
                self._receive(self._delay())
                self._look()
        except BaseException as error:
            logger.exception("the poller met an error that should not happen")
            self._fail_everything(error)
            with self._lock:
                self._cache.forget(self._take_snapshot)
                self._thread = None
            raise

    def _stay(self) -> bool:
        """Whether there is something to watch; if not, the thread is over."""
        with self._lock:
            watched = any(each.is_open for each in self._watched)
            if self._open or watched or not self._inbox.empty():
                return True
            self._cache.forget(self._take_snapshot)
            self._thread = None
            return False

    def _delay(self) -> float:
        quiet = time.monotonic() - self._news_at
        delay = min(max(quiet * _LOOK_SHARE, _SHORTEST_LOOK), _LONGEST_LOOK)
        # The smallest of the last few: a hiccup does not make a file system slow.
        cost = min(self._look_costs, default=0.0) * _LOOK_COST_FACTOR
        return max(delay, min(cost, _LONGEST_LOOK))

    def _receive(self, timeout: float) -> None:
        """Handle what is in the inbox; wait for something to be there."""
        try:
            self._handle(self._inbox.get(timeout=timeout))
            while True:
                self._handle(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _handle(self, message: _Message) -> None:
        match message:
            case OpenSubmission():
                self._open.append(message)
                self._news_at = time.monotonic()
                self._query_factor = 1.0
                self._ask(self._scheduler.poll_interval)
            case Track():
                self._forget_cancelled(message)
            case Snapshot():
                self._absorb(message)
            case _Explained():
                self._give_up(message)
            case SlurmFuturesError():
                self._stop(message)
            case _Watch():
                self._news_at = time.monotonic()
                if message.watched not in self._watched:
                    self._watched.append(message.watched)
            case _Call():
                message.function()

    def _expect_change(self) -> None:
        """Look and ask often again: something has happened, or will soon."""
        self._news_at = time.monotonic()
        self._query_factor = 1.0
        self._ask(0)

    def _ask(self, delay: float) -> None:
        """Wish for a snapshot after these seconds, or as soon as one is allowed."""
        self._cache.ask(self._take_snapshot, time.monotonic() + delay)

    def _take_snapshot(self, snapshot: Snapshot) -> None:
        """Pass a snapshot on; called in the thread of the cache."""
        self._inbox.put(snapshot)

    def _forget_cancelled(self, track: Track) -> None:
        for opened in self._open:
            if opened.tracks.get(track.index) is track:
                self._endings.close(opened, track)
                break
        self._sweep()

    def _sweep(self) -> None:
        self._open = [opened for opened in self._open if opened.tracks]

    # Look.

    def _look(self) -> None:
        now = time.monotonic()
        self._look_cost = 0.0
        look_at_started = now - self._started_look_at >= _STARTED_INTERVAL
        if look_at_started:
            self._started_look_at = now
        for opened in self._open:
            self._guard(opened, partial(self._look_at, look_at_started=look_at_started))
        self._look_costs.append(self._look_cost)
        self._sweep()
        for watched in self._watched:
            self._look_at_queue(watched)

    def _look_at_queue(self, watched: Watched) -> None:
        try:
            if watched.look():
                self._news_at = time.monotonic()
        except OSError as error:
            logger.debug("%s", error)
        except Exception as error:
            logger.exception("an error that should not happen in a queue")
            watched.stop(_internal_error(error))

    def _guard(
        self, opened: OpenSubmission, act: Callable[[OpenSubmission], None]
    ) -> None:
        """Do something with a submission such that no other one suffers from it."""
        try:
            act(opened)
        except OSError as error:
            # No news: the directory cannot be read now, or no file can be opened.
            logger.debug("job %s: %s", opened.job_id, error)
        except Exception as error:
            logger.exception("job %s: an error that should not happen", opened.job_id)
            self._fail_all(opened, _internal_error(error))

    def _look_at(self, opened: OpenSubmission, look_at_started: bool) -> None:
        finished, ending = self._list(opened, look_at_started)
        for index in opened.tracks.keys() & finished:
            # Settling one job may close others: the initializer failed.
            if index in opened.tracks:
                self._finish(opened, opened.tracks[index])
        for index in (ending & opened.tracks.keys()) - opened.told_to_end:
            opened.told_to_end.add(index)
            self._note_ending(opened, opened.tracks[index])
        for index in list(opened.suspects):
            if index in opened.tracks:
                self._decide(opened, opened.tracks[index])

    def _list(
        self, opened: OpenSubmission, look_at_started: bool
    ) -> tuple[set[int], set[int]]:
        """List the directories of a submission, and note what that costs."""
        began = time.monotonic()
        try:
            found = opened.submission.list_finished(opened.open_blocks)
            opened.gone_since = None
            if look_at_started and opened.unstarted:
                blocks = {block_of(index) for index in opened.unstarted}
                opened.note_start(opened.submission.list_started(blocks))
        except FileNotFoundError:
            self._note_gone(opened, began)
            return set(), set()
        finally:
            self._look_cost += time.monotonic() - began
        return found

    def _note_gone(self, opened: OpenSubmission, now: float) -> None:
        """Take that the directory of a submission is not there."""
        if opened.gone_since is None:
            opened.gone_since = now
        if now - opened.gone_since < min(self._grace, _GONE_GRACE):
            return
        path = opened.submission.path
        self._cancel([track.job_id for track in opened.tracks.values()])
        self._fail_all(
            opened,
            JobLost(
                f"The results of job {opened.job_id} are lost.\nThe directory {path} "
                "was deleted while its jobs were open.\nSubmit the calls again, in a "
                'directory that is not cleaned up: SlurmExecutor(directory="...").'
            ),
        )

    def _note_ending(self, opened: OpenSubmission, track: Track) -> None:
        """Take that Slurm told the job to end, and that its calls did so."""
        state = find_cause(opened.submission.read_log(str(track.job_id)))
        if state in {JobState.CANCELLED, JobState.TIMEOUT}:
            # Slurm's last word. After a preemption, say, the job may run again.
            track.marker = Marker(_SIGTERM_EXIT_CODE, published=False)
            track.state = state
            opened.suspects.add(track.index)
        self._expect_change()

    def _finish(self, opened: OpenSubmission, track: Track) -> None:
        """End a job that has left its marker: mostly its outcomes are all there."""
        if track.marker is None:
            self._news_at = time.monotonic()
            self._deliver(opened, track)
            if not track.closed:
                self._read_marker(opened, track)

    def _read_marker(self, opened: OpenSubmission, track: Track) -> None:
        if track.marker is not None:
            return
        track.marker = opened.submission.read_marker(track.index)
        track.marker_at = time.monotonic()
        opened.suspects.add(track.index)
        if track.marker is not None and not track.marker.published:
            if find_cause(opened.submission.read_log(str(track.job_id))) is not None:
                track.over_since = track.marker_at  # Slurm has said already why
            self._expect_change()

    def _absorb(self, snapshot: Snapshot) -> None:
        """Take in what a snapshot says about each open job."""
        self._snapshot_at = snapshot.started_at
        changed = False
        for opened in self._open:
            rows = snapshot.jobs.get(opened.job_id, ())
            changed |= opened.compare(rows, snapshot.started_at)
            self._end_late(opened, snapshot.started_at)
        self._sweep()
        if changed:
            self._query_factor = 1.0
        else:
            longest = _LONGEST_QUERY_FACTOR
            self._query_factor = min(self._query_factor * 1.5, longest)
        self._ask(self._scheduler.poll_interval * self._query_factor)

    def _end_late(self, opened: OpenSubmission, now: float) -> None:
        """Cancel jobs that have not started in time, and fail their calls."""
        late = list(self._pending.check(opened, now))
        if late:
            self._cancel([track.job_id for track, _ in late])
        for track, error in late:
            self._endings.fail(opened, track, error)

    # Decide and act.

    def _decide(self, opened: OpenSubmission, track: Track) -> None:
        verdict = judge(track, time.monotonic(), self._snapshot_at, self._grace)
        if verdict is Verdict.SETTLE:
            self._deliver(opened, track)
        elif verdict is Verdict.FAIL and not track.being_explained:
            track.being_explained = True
            self._explainer.put([(opened, track)])

    def _deliver(self, opened: OpenSubmission, track: Track) -> None:
        try:
            self._endings.deliver(opened, track)
        except OSError as error:
            track.problem = str(error)

    def _explain(self, lost: list[tuple[OpenSubmission, Track]]) -> None:
        """Ask how jobs ended; called in the thread of the explainer."""
        unclear = [track.job_id for _, track in lost if not _is_clear(track)]
        endings: dict[JobId, Ending] = {}
        if unclear:
            try:
                endings = dict(self._scheduler.explain(unclear))
            except Exception as error:  # noqa: BLE001  (only fewer facts in the error)
                logger.info("nothing more is known of %d jobs: %s", len(unclear), error)
        self._inbox.put(_Explained(endings, lost))

    def _give_up(self, explained: _Explained) -> None:
        """Fail the calls of jobs that are over, unless news came in the meantime."""
        for opened, track in explained.tracks:
            track.being_explained = False
            if track.index in opened.tracks:
                ending = explained.endings.get(track.job_id, Ending())
                self._guard(opened, partial(self._bury, track=track, ending=ending))
        self._sweep()

    def _bury(self, opened: OpenSubmission, track: Track, ending: Ending) -> None:
        # The explanation took its time: look once more.
        if track.marker is None:
            block = [block_of(track.index)]
            if track.index in opened.submission.list_finished(block)[0]:
                self._read_marker(opened, track)
        # No other state is believed: the accounting says RUNNING for ever of a job that
        # slurmctld has lost.
        if ending.state in UNLISTED:
            track.see(ending.state, self._snapshot_at)
        verdict = judge(track, time.monotonic(), self._snapshot_at, self._grace)
        if verdict is Verdict.SETTLE:
            self._deliver(opened, track)
        elif verdict is Verdict.FAIL:
            self._endings.bury(opened, track, ending)

    def _stop(self, error: SlurmFuturesError) -> None:
        """Fail every open future and cancel its job."""
        for opened in self._open:
            self._cancel([track.job_id for track in opened.tracks.values()])
            self._fail_all(opened, error)
        self._sweep()
        for watched in self._watched:
            watched.stop(error)

    def _fail_all(self, opened: OpenSubmission, error: SlurmFuturesError) -> None:
        for track in list(opened.tracks.values()):
            self._endings.fail(opened, track, error)

    def _fail_everything(self, error: BaseException) -> None:
        while not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, OpenSubmission):
                self._open.append(message)
        for opened in self._open:
            self._fail_all(opened, _internal_error(error))
        self._open = []
        for watched in self._watched:
            watched.stop(_internal_error(error))


def _is_clear(track: Track) -> bool:
    """Whether the job's own marker says all there is to say."""
    return track.marker is not None and track.over_since is None


def _internal_error(error: BaseException) -> SlurmFuturesError:
    failure = SlurmFuturesError(
        "slurm_futures met an error that should not happen; the job may still run. "
        f"It was {type(error).__name__}: {error}. Please report it with its traceback."
    )
    failure.__cause__ = error
    return failure
