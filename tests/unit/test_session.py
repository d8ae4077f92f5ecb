"""What submitter, poller and canceller do together, where it is hard to provoke."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from slurm_futures import SlurmExecutor, SlurmFuture
from slurm_futures.jobs.submitter import Submitter
from tests.waiting import assert_soon

PATIENCE = 60  #: seconds


@pytest.mark.parametrize("name", ["submitter", "poller", "queue", "canceller"])
@pytest.mark.parametrize("failures", [1, 1000])
def test_threads_that_cannot_be_started_are_done_without(
    name: str, failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, or as long as the system has none: calls end, and so does the executor."""
    start = threading.Thread.start
    failed: list[str] = []

    def fail_sometimes(thread: threading.Thread) -> None:
        if thread.name == f"slurm_futures-{name}" and len(failed) < failures:
            failed.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_sometimes)
    with SlurmExecutor(scheduler="local", directory=tmp_path) as executor:
        assert executor.submit(abs, -2).result(PATIENCE) == 2
        assert list(executor.map(abs, [-3, -4], timeout=PATIENCE)) == [3, 4]
        sleeping = executor.submit(time.sleep, PATIENCE)
        assert_soon(lambda: sleeping.job_id is not None)
        assert sleeping.cancel()
    if name != "queue":  # nobody may have asked for it
        assert failed


def test_thread_that_polls_for_want_of_another_one_also_submits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the submitter's own, and the next call comes while it polls."""
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == "slurm_futures-poller":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    later: list[SlurmFuture[int]] = []
    with SlurmExecutor(scheduler="local", directory=tmp_path) as executor:
        first = executor.submit(time.sleep, 0.5)
        first.add_done_callback(lambda _: later.append(executor.submit(abs, -3)))
        first.result(PATIENCE)
        assert_soon(lambda: later)
        assert later[0].result(PATIENCE) == 3


def test_submit_that_comes_too_late_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was on its way when another thread shut down, which waits for no such call."""
    put = Submitter.put
    accepted, gate = threading.Event(), threading.Event()

    def put_late(self: Submitter, *arguments: object) -> None:
        accepted.set()
        assert gate.wait(PATIENCE)
        put(self, *arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(Submitter, "put", put_late)
    executor = SlurmExecutor(scheduler="local", directory=tmp_path)
    refused: list[str] = []

    def submit() -> None:
        with pytest.raises(RuntimeError) as error:
            executor.submit(abs, -1)
        refused.append(str(error.value))

    submitting = threading.Thread(target=submit)
    submitting.start()
    assert accepted.wait(PATIENCE)
    executor.shutdown()

    gate.set()
    submitting.join(PATIENCE)
    executor.shutdown()
    assert refused == ["cannot schedule new futures after shutdown"]
    assert list(tmp_path.iterdir()) == []


def test_cancel_needs_no_lock_that_another_thread_may_hold(tmp_path: Path) -> None:
    """The garbage collector may cancel a future while `wait` holds another one."""
    with SlurmExecutor(scheduler="local", directory=tmp_path) as executor:
        held = executor.submit(abs, -1)
        other = executor.submit(time.sleep, PATIENCE)
        with held._condition:
            # The submitter may wait for it now, and must hold nothing meanwhile.
            cancelling = threading.Thread(target=other.cancel)
            cancelling.start()
            cancelling.join(PATIENCE)
            assert not cancelling.is_alive()
        assert other.cancelled()
        assert_soon(held.done)
