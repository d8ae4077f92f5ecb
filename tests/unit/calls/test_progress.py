"""The line that counts calls."""

import io
import sys
import threading
from pathlib import Path

import pytest

from slurm_futures import SlurmExecutor
from slurm_futures.calls import progress
from slurm_futures.calls.outcome import Outcome
from slurm_futures.calls.progress import Progress
from tests.unit.fakes import make_chunk, make_future


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Whether escape codes are understood."""
        return True


@pytest.mark.usefixtures("_no_seconds")
def test_line_on_a_terminal_is_rewritten() -> None:
    """And ended with the last call."""
    stream = Terminal()
    counter = Progress(stream)
    futures = [make_future(), make_future()]
    for future in futures:
        counter.watch(future, 1)

    for future in futures:
        future._settle(0, Outcome(value=1))

    assert stream.getvalue() == (
        "\r\x1b[K1/2 calls done, 0 s\r\x1b[K2/2 calls done, 0 s\n"
    )


@pytest.fixture
def _no_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_ON_TERMINAL", 0.0)


def test_log_file_gets_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first, now and then one, and the last."""
    stream = io.StringIO()
    counter = Progress(stream)
    futures = [make_future() for _ in range(100)]
    for future in futures:
        counter.watch(future, 1)

    for future in futures:
        future._settle(0, Outcome(value=1))

    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "1/100 calls done",
        "100/100 calls done",
    ]


def test_failures_are_counted() -> None:
    """Exceptions, and calls that were cancelled."""
    stream = io.StringIO()
    counter = Progress(stream)
    failed, cancelled = make_future(), make_future()
    counter.watch(failed, 1)
    counter.watch(cancelled, 1)

    failed._settle(0, Outcome(exception=ValueError()))
    cancelled.cancel()

    assert "2/2 calls done, 2 failed" in stream.getvalue()


def test_calls_of_a_chunk_are_counted_each() -> None:
    """Those that failed as well, though the chunk as a whole has a result."""
    stream = io.StringIO()
    counter = Progress(stream)
    chunk = make_chunk(3)
    counter.watch(chunk, 3)

    for position in range(2):
        chunk._settle(position, Outcome(value=1))
    chunk._settle(2, Outcome(exception=ValueError()))

    assert "3/3 calls done, 1 failed" in stream.getvalue()


def test_calls_that_cannot_be_pickled_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of two calls of a chunk fails on the spot: it is a call all the same."""
    executor = SlurmExecutor(scheduler="local", directory=tmp_path, progress=True)
    with executor:
        results = executor.map(abs, [-1, threading.Lock()], chunksize=2)
        assert next(results) == 1

    assert "2/2 calls done, 1 failed" in capsys.readouterr().err


def test_list_that_a_call_returns_is_no_chunk() -> None:
    """Its value is its own affair."""
    stream = io.StringIO()
    counter = Progress(stream)
    future = make_future()
    counter.watch(future, 1)

    future._settle(0, Outcome(value=[ValueError()]))

    assert "failed" not in stream.getvalue()


def test_stderr_is_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout belongs to the program."""
    counter = Progress()
    future = make_future()
    counter.watch(future, 1)

    future._settle(0, Outcome(value=1))

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("1/1 calls done")


def test_nothing_is_written_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python sets sys.stderr to None where the descriptor is closed."""
    monkeypatch.setattr(sys, "stderr", None)
    counter = Progress()
    future = make_future()
    counter.watch(future, 1)

    future._settle(0, Outcome(value=1))

    assert future.result(0) == 1
