"""Errors of the library itself: its calls fail with the cause, and nothing hangs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slurm_futures import SlurmExecutor, SlurmFuturesError
from slurm_futures.jobs.closer import Closer
from slurm_futures.jobs.inspector import Inspector
from slurm_futures.jobs.look_pace import LookPace
from slurm_futures.jobs.open_submission import OpenSubmission
from slurm_futures.jobs.poller import Poller
from slurm_futures.schedulers import slurm_text
from tests.cluster.conftest import MakeExecutor, Noticed
from tests.contract.calls import identity
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster
from tests.waiting import assert_soon

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # they are ours
    ),
]

PATIENCE = 60  #: seconds


def raises(error: type[BaseException]) -> Callable[..., None]:
    """Return a function that is broken."""

    def fail(*_: object, **__: object) -> None:
        raise error("a bug")

    return fail


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (OpenSubmission, "compare", ArithmeticError),
        (OpenSubmission, "compare", SystemExit),
        (Inspector, "look_at", ArithmeticError),
        (Poller, "_look", ArithmeticError),
        (LookPace, "delay", SystemExit),
    ],
    ids=["snapshot", "snapshot-exit", "one-submission", "all", "thread"],
)
@pytest.mark.parametrize("living_on", [False, True], ids=["jobs", "pool"])
def test_an_error_in_the_poller(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    error: type[BaseException],
    living_on: bool,
) -> None:
    """The error names the cause and the job; later calls run, or fail at once."""
    executor = make_executor(
        max_workers=4, max_tasks_per_child=None if living_on else 1
    )
    futures = [executor.submit(gate.hold, value) for value in "ab"]
    gate.await_arrivals("a", "b")

    with monkeypatch.context() as broken:
        broken.setattr(owner, name, raises(error))
        failures = [noticed(each, SlurmFuturesError, within=20) for each in futures]

    for failure in failures:
        assert isinstance(failure.__cause__, error)
        assert f"{error.__name__}: a bug" in str(failure)
        if not living_on:
            assert "'scancel " in str(failure)
    if not living_on:  # else a thread that met the error may still be failing calls
        assert_soon(lambda: not executor._session._jobs.poller._thread.exists)
    gate.open()
    check_later_calls(executor, living_on)
    executor.shutdown()
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)


def check_later_calls(executor: SlurmExecutor, may_fail: bool) -> None:
    """See that a later call has an end."""
    later = executor.submit(identity, 5)
    failure = later.exception(PATIENCE)
    if failure is None:
        assert later.result() == 5
    else:
        assert may_fail
        assert isinstance(failure, SlurmFuturesError)


@pytest.mark.usefixtures("slurm")
def test_an_error_in_what_follows_an_error(
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Futures fail all the same where failing them is what is broken."""
    executor = make_executor(max_workers=1)
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")

    with monkeypatch.context() as broken:
        broken.setattr(Inspector, "look_at", raises(ArithmeticError))
        broken.setattr(Closer, "fail", raises(LookupError))
        noticed(future, SlurmFuturesError, within=20)

    gate.open()
    assert executor.submit(identity, 5).result(PATIENCE) == 5


@pytest.mark.usefixtures("slurm")
def test_an_error_in_the_reader_of_squeue(
    make_executor: MakeExecutor, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as a squeue that failed: no news."""
    monkeypatch.setattr(slurm_text, "parse_queue", raises(ArithmeticError))
    future = make_executor(poll_interval=0.1, grace=0.1).submit(gate.hold, "a")
    gate.await_arrivals("a")
    with pytest.raises(TimeoutError):
        future.result(2)

    gate.open()

    assert future.result(PATIENCE) == "a"
