"""One squeue for all: who asks, how often, and what happens when it fails."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from slurm_futures.jobs import queue_cache
from slurm_futures.jobs.queue_cache import QueueCache
from slurm_futures.jobs.timing import Timing
from slurm_futures.schedulers.base import Snapshot
from tests.unit.fakes import FakeJobs, FakeScheduler, WatchedPoller, squeue_is_down
from tests.waiting import assert_soon, becomes_true


def ask_now(cache: QueueCache, *answers: list[Snapshot]) -> None:
    """Let each list get the next snapshot."""
    now = time.monotonic()
    for each in answers:
        cache.ask(each.append, now)


def test_schedulers_of_equal_identity_share_a_cache(scheduler: FakeScheduler) -> None:
    """All executors of a process ask with one voice."""
    cache = QueueCache.of(scheduler, Timing())

    assert QueueCache.of(scheduler, Timing()) is cache
    assert QueueCache.of(FakeScheduler(), Timing()) is not cache


def test_one_query_serves_all_subscribers(scheduler: FakeScheduler) -> None:
    """However many wait."""
    scheduler.poll_interval = 1.0  # they ask one after another
    cache = QueueCache.of(scheduler, Timing())
    first: list[Snapshot] = []
    ask_now(cache, first)
    assert_soon(lambda: first)
    answers: list[list[Snapshot]] = [[] for _ in range(10)]

    ask_now(cache, *answers)

    assert_soon(lambda: all(answers))
    assert scheduler.query_count == 2
    assert len({id(each[0]) for each in answers}) == 1


def test_interval_between_queries_is_kept(scheduler: FakeScheduler) -> None:
    """Whatever the wishes are."""
    scheduler.poll_interval = 0.1
    cache = QueueCache.of(scheduler, Timing())
    answers: list[Snapshot] = []

    for count in range(1, 4):
        ask_now(cache, answers)
        assert_soon(lambda: len(answers) == count)  # noqa: B023  (called at once)

    times = [snapshot.started_at for snapshot in answers]
    assert times[1] - times[0] >= 0.1
    assert times[2] - times[1] >= 0.1


def test_each_executor_has_its_own_interval(
    scheduler: FakeScheduler, jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the first one asks rarely does not make the others wait."""
    monkeypatch.setattr(FakeScheduler, "identity", "one cluster")
    scheduler.poll_interval = 1000.0
    rare = WatchedPoller(scheduler)
    often = WatchedPoller(FakeScheduler(poll_interval=0.01))
    assert often.poller._subscription.cache is rare.poller._subscription.cache

    often.watch(jobs)
    asked_often = becomes_true(lambda: scheduler.query_count >= 3)

    for job in list(jobs.opened.jobs.values()):
        often.poller.cancel(job)
    often.group.join()
    assert asked_often


def test_interval_counts_from_the_end_of_a_query(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A squeue that failed after a minute is not run again at once."""
    now = 0.0

    def take_a_minute() -> Snapshot:
        nonlocal now
        now += 60.0
        raise squeue_is_down()

    monkeypatch.setattr(queue_cache, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(scheduler, "query", take_a_minute)
    scheduler.poll_interval = 10.0
    cache = QueueCache(scheduler, Timing())
    monkeypatch.setattr(cache._thread, "start", lambda: True)
    cache.ask(print, now)

    assert cache._wait_until_due()
    assert cache._query() is None
    assert cache._earliest(scheduler.poll_interval) == 70.0


def test_snapshot_is_not_older_than_the_wish(scheduler: FakeScheduler) -> None:
    """A query that is under way when somebody asks does not count for him."""
    cache = QueueCache.of(scheduler, Timing())
    early: list[Snapshot] = []
    late: list[Snapshot] = []
    asked_at = 0.0
    query = scheduler.query

    def query_slowly() -> Snapshot:
        nonlocal asked_at
        snapshot = query()
        if not asked_at:
            asked_at = time.monotonic()
            cache.ask(late.append, asked_at)
        return snapshot

    scheduler.query = query_slowly  # type: ignore[method-assign]  # of this one object
    ask_now(cache, early)

    assert_soon(lambda: late)
    assert early[0].started_at < asked_at <= late[0].started_at


def test_earliest_wish_of_a_subscriber_counts(scheduler: FakeScheduler) -> None:
    """A later one does not put it off."""
    cache = QueueCache.of(scheduler, Timing())
    answers: list[Snapshot] = []
    take = answers.append

    cache.ask(take, time.monotonic() + 0.05)
    cache.ask(take, time.monotonic() + 1000)

    assert_soon(lambda: answers)
    cache.forget(take)  # the first wish may have come true before the second was said


def test_failed_query_is_asked_again_later_and_later(
    scheduler: FakeScheduler,
) -> None:
    """Nobody is called meanwhile."""
    scheduler.poll_interval = 1.0
    cache = QueueCache(scheduler, Timing())
    pauses = []

    for failures in range(12):
        cache._failures = failures
        cache._asked_at = 0.0
        pauses.append(cache._earliest(scheduler.poll_interval))

    assert pauses[:5] == [1, 1, 2, 4, 8]
    assert pauses[-1] == Timing().longest_query_backoff


def test_interval_longer_than_the_back_off_is_kept(scheduler: FakeScheduler) -> None:
    """A user who asks for rare queries gets them."""
    scheduler.poll_interval = 600.0
    cache = QueueCache(scheduler, Timing())
    cache._asked_at, cache._failures = 0.0, 5

    assert cache._earliest(scheduler.poll_interval) == 600.0


def test_good_query_after_failures_reaches_the_subscriber(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its wish stands until then."""
    cache = QueueCache.of(scheduler, Timing(longest_query_backoff=0.02))
    answers: list[Snapshot] = []
    scheduler.query_error = squeue_is_down()
    ask_now(cache, answers)
    assert_soon(lambda: scheduler.query_count > 3)

    scheduler.query_error = None

    assert_soon(lambda: answers)
    assert cache._failures == 0


def test_failures_are_told_once_in_a_while(
    scheduler: FakeScheduler,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line for a first failure, one warning for a row of them."""
    caplog.set_level("INFO", "slurm_futures")
    cache = QueueCache.of(scheduler, Timing(longest_query_backoff=0.01))
    answers: list[Snapshot] = []
    scheduler.query_error = squeue_is_down()
    ask_now(cache, answers)

    assert_soon(lambda: scheduler.query_count > 6)
    scheduler.query_error = None

    assert_soon(lambda: answers)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_unexpected_error_of_a_query_does_not_end_the_thread(
    scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in a scheduler is told of, and the next query may go well."""
    cache = QueueCache.of(scheduler, Timing())
    answers: list[Snapshot] = []
    scheduler.query_error = ZeroDivisionError()
    ask_now(cache, answers)
    assert_soon(lambda: scheduler.query_count)

    scheduler.query_error = None

    assert_soon(lambda: answers)
    assert "could not be read" in caplog.text


def test_thread_ends_when_nobody_waits(scheduler: FakeScheduler) -> None:
    """At once, not after the interval."""
    scheduler.poll_interval = 1000.0
    cache = QueueCache.of(scheduler, Timing())
    answers: list[Snapshot] = []
    ask_now(cache, answers)
    assert_soon(lambda: answers)
    ask_now(cache, answers)
    assert cache._thread.exists

    for wish in list(cache._wishes):
        cache.forget(wish)

    assert_soon(lambda: not cache._thread.exists)


def test_forgetting_a_stranger_does_nothing(scheduler: FakeScheduler) -> None:
    """A poller forgets its wish whether it has one or not."""
    QueueCache.of(scheduler, Timing()).forget(print)


def test_thread_does_not_hold_up_the_end_of_the_program(
    scheduler: FakeScheduler,
) -> None:
    """A squeue may hang."""
    cache = QueueCache.of(scheduler, Timing())
    cache.ask(print, time.monotonic() + 1000)

    (thread,) = [
        each for each in threading.enumerate() if each.name == "slurm_futures-queue"
    ]
    assert thread.daemon
    cache.forget(print)


def test_thread_that_could_not_be_started_is_started_later(
    scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish stays."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    answers: list[Snapshot] = []
    cache = QueueCache.of(scheduler, Timing())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        ask_now(cache, answers)
        cache.revive()
    assert not cache._thread.exists

    cache.revive()
    assert_soon(lambda: answers)


def test_forked_child_starts_anew(scheduler: FakeScheduler) -> None:
    """It has no thread of its parent, whose locks may be held for ever."""
    cache = QueueCache.of(scheduler, Timing())
    cache.ask(print, time.monotonic() + 1000)
    pid = os.fork()
    if pid == 0:
        answered = threading.Event()
        QueueCache.of(scheduler, Timing()).ask(lambda _: answered.set(), 0)
        os._exit(0 if answered.wait(60) else 1)

    _, status = os.waitpid(pid, 0)

    cache.forget(print)
    assert status == 0
