"""Runs that are opened again: from this program while it lives, and afterwards."""

import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import JobFailed, SlurmFuturesError, list_runs, open_run
from tests.contract import calls, executors
from tests.contract.executors import PATIENCE, MakeOurs
from tests.contract.gate import Gate
from tests.waiting import assert_soon

pytestmark = executors.ours

WAYS: list[dict[str, Any]] = [{}, {"max_tasks_per_child": None}]


def print_and_divide(number: int) -> int:
    """Print, and fail for 0."""
    print("printed for", number)
    return 6 // number


def fail_once(path: Path) -> str:
    """Raise at the first attempt."""
    if path.exists():
        return "second"
    path.touch()
    raise ConnectionError("first")


@pytest.mark.parametrize("options", WAYS, ids=["jobs", "pool"])
def test_a_run_is_read_back(
    make_ours: MakeOurs, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Each call by itself, in the order of submission, chunks or not."""
    items = [1, 2, 0, 3, 0, 6]
    with make_ours(2, keep="always", **options) as executor:
        first = executor.submit(print_and_divide, 1)
        results = executor.map(
            print_and_divide, items, chunksize=4, return_exceptions=True
        )
        expected = [str(each) for each in (first.result(PATIENCE), *results)]
        path = executor.directory

    with open_run(path) as run:
        found = [str(each.exception() or each.result()) for each in run.futures]
        printed = [f"printed for {n}\n" for n in (1, *items)]
        for future, text, number in zip(run.futures, printed, (1, *items), strict=True):
            assert text in future.stdout()
            assert future.stderr() == ""
            assert future.job_id is not None
            assert future.directory is not None
            assert future.call.args == (number,)
            assert future.usage is not None
            assert future.usage.started_at is not None
            assert future.usage.waited is None
        counts = run.counts()
        assert run.usage().calls == len(items) + 1
        assert len(run.usage().elapsed) == 3

    assert found == expected
    assert (counts["done"], counts["failed"], sum(counts.values())) == (5, 2, 7)
    assert run.name is None
    assert run.owner is None
    assert [each.path for each in list_runs(tmp_path / "runs")] == [path]


def test_a_call_that_ran_twice_is_one_call(make_ours: MakeOurs, tmp_path: Path) -> None:
    """A value counts, in whichever attempt."""
    with make_ours(1, keep="always", retries={ConnectionError: 1}) as executor:
        future = executor.submit(fail_once, tmp_path / "tried")
        assert future.result(PATIENCE) == "second"
        assert executor.submit(calls.identity, 1).result(PATIENCE) == 1
        run = open_run(executor.directory)

        assert [each.result() for each in run.futures] == ["second", 1]
    assert run.counts()["done"] == 2


@pytest.mark.parametrize("options", WAYS, ids=["jobs", "pool"])
def test_a_living_run_shows_what_is_over(
    make_ours: MakeOurs, gate: Gate, options: dict[str, Any]
) -> None:
    """And settles the others when they are over, without a word to its program."""
    with make_ours(1, keep="always", **options) as executor:
        futures = [executor.submit(gate.hold, each) for each in ("first", "second")]
        gate.await_arrivals("first")
        run = open_run(executor.directory)
        before = run.counts()
        first, *_ = found = run.futures
        assert run.wait(0).not_done == set(found)
        assert not first.cancel()
        gate.open("first")
        assert first.result(PATIENCE) == "first"
        gate.open()
        assert run.wait(PATIENCE).not_done == set()
        assert futures[1].result(PATIENCE) == "second"
        assert first.job_id == futures[0].job_id

        assert before["running"] + before["pending"] == len(found)
        assert [each.result() for each in run.futures] == ["first", "second"]
        assert run.futures[0] is first
        run.close()
        with pytest.raises(RuntimeError, match="closed"):
            _ = run.futures


def test_a_run_that_is_dropped_is_not_watched(make_ours: MakeOurs, gate: Gate) -> None:
    """As soon as nobody has its futures either."""
    with make_ours(1, keep="always") as executor:
        executor.submit(gate.hold, "call")
        gate.await_arrivals("call")
        futures = list(open_run(executor.directory).futures)
        was_observed = _is_observed()

        del futures
        try:
            assert_soon(_has_no_observer, PATIENCE)
        finally:
            gate.open()

    assert was_observed


def _has_no_observer() -> bool:
    gc.collect()  # the thread may have had the futures, the last time
    return not _is_observed()


def _is_observed() -> bool:
    return any(each.name.endswith("observer") for each in threading.enumerate())


def test_the_jobs_of_another_scheduler_cannot_be_cancelled(make_ours: MakeOurs) -> None:
    """Only its own program reaches them; Slurm's anybody of the same user."""
    with make_ours(1, keep="always") as executor:
        assert executor.submit(calls.identity, 1).result(PATIENCE) == 1
        run = open_run(executor.directory)

        if run._scheduler is None:
            with pytest.raises(SlurmFuturesError, match="cannot be reached"):
                run.cancel()
        else:
            run.cancel()


def test_a_job_that_died_has_failed(make_ours: MakeOurs) -> None:
    """With the same words as for its own program."""
    with make_ours(1, keep="always") as executor:
        future = executor.submit(os._exit, 3)
        error = future.exception(PATIENCE)
        run = open_run(executor.directory)

    (found,) = run.futures
    assert isinstance(error, JobFailed)
    assert str(found.exception()).partition("\n")[0] == str(error).partition("\n")[0]
    assert found.job_id == future.job_id
    assert run.counts()["failed"] == 1


def test_values_that_were_not_kept_count_all_the_same(make_ours: MakeOurs) -> None:
    """Whoever asks for one is told why it is gone."""
    with make_ours(1) as executor:
        futures = list(executor.map(print_and_divide, [1, 2]))
        bad = executor.submit(print_and_divide, 0)
        results = executor.map(
            print_and_divide, [3, 0], chunksize=1, return_exceptions=True
        )
        assert str(next(results)) == "2"
        assert isinstance(next(results), ZeroDivisionError)
        assert isinstance(bad.exception(PATIENCE), ZeroDivisionError)
        path = executor.directory

    run = open_run(path)
    assert futures == [6, 3]
    assert run.counts()["failed"] == 2
    for future in run.futures:
        error = future.exception()
        assert isinstance(error, ZeroDivisionError) or "keep=" in str(error)


def test_a_future_knows_its_call(make_ours: MakeOurs) -> None:
    """Read from disk, with the words of the standard library where it is gone."""
    with make_ours(1, keep="never") as executor:
        future = executor.submit(calls.capture, 1, [2], named="three")
        assert future.result(PATIENCE) == ((1, [2]), {"named": "three"})

        call = future.call

    assert call.function is calls.capture
    assert (call.args, call.kwargs) == ((1, [2]), {"named": "three"})
    with pytest.raises(FileNotFoundError, match="keep="):
        _ = future.call


def test_a_large_function_is_the_function_of_its_call(make_ours: MakeOurs) -> None:
    """Though it travels like an argument."""
    large = bytes(2 << 20)
    with make_ours(1) as executor:
        future = executor.submit(lambda number: len(large) + number, 1)
        assert future.result(PATIENCE) == len(large) + 1

        function, args, kwargs = future.call

    assert function(*args, **kwargs) == len(large) + 1
