"""A call finds the state of its caller as it was at `submit` or `map`."""

import decimal
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.contract import executors
from tests.contract.executors import PATIENCE, MakeOurs
from tests.contract.gate import Gate

pytestmark = executors.ours

_WORKERS: dict[str, Any] = {"max_workers": 2, "max_tasks_per_child": None}


@pytest.fixture(params=[{}, _WORKERS], ids=["jobs", "workers"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each test runs with a job for each call, and with long-lived workers."""
    return dict(request.param)


class OwnWarning(UserWarning):
    """A category that only its own module knows."""


def settings() -> tuple[Any, ...]:
    """Return what is one value of the standard library."""
    numbers = sys.getrecursionlimit(), sys.get_int_max_str_digits()
    context = decimal.getcontext()
    traps = context.traps[decimal.Inexact]
    return *numbers, context.prec, context.rounding, traps


def set_variable() -> None:
    """Set a variable for all calls of the process."""
    os.environ["STATE_INITIALIZER"] = "yes"


def warn(text: str) -> str:
    """Warn, and return what becomes of it."""
    try:
        warnings.warn(text, OwnWarning, stacklevel=1)
    except OwnWarning as error:
        return f"raised {error}"
    return "passed"


@pytest.fixture
def own_settings() -> Iterator[None]:
    """Let the test change what it wants."""
    recursion, digits = sys.getrecursionlimit(), sys.get_int_max_str_digits()
    with decimal.localcontext(), warnings.catch_warnings():
        yield
    sys.setrecursionlimit(recursion)
    sys.set_int_max_str_digits(digits)


def test_each_call_finds_the_environment_of_its_submit(
    make_ours: MakeOurs, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the program does to it right afterwards, and also what it deletes."""
    monkeypatch.setenv("STATE_LATER_DELETED", "here")
    executor = make_ours(**options)
    futures = []
    for tag in "abcd":
        monkeypatch.setenv("STATE_TAG", tag)
        futures.append(executor.submit(os.getenv, "STATE_TAG"))
    monkeypatch.delenv("STATE_TAG")
    with mock.patch.dict(os.environ, {"STATE_PATCHED": "1"}):
        patched = executor.submit(os.getenv, "STATE_PATCHED")
        several = executor.map(os.getenv, ["STATE_PATCHED", "STATE_TAG"])
    monkeypatch.delenv("STATE_LATER_DELETED")
    names = ["STATE_TAG", "STATE_PATCHED", "STATE_LATER_DELETED"]
    after = executor.map(os.getenv, names)

    assert [future.result(PATIENCE) for future in futures] == list("abcd")
    assert patched.result(PATIENCE) == "1"
    assert list(several) == ["1", None]
    assert list(after) == [None, None, None]


def test_an_empty_environment_is_one_too(
    make_ours: MakeOurs, options: dict[str, Any]
) -> None:
    """The jobs start, though not even the commands of Slurm are found with it."""
    executor = make_ours(**options)
    with mock.patch.dict(
        os.environ, {"PATH": "/nowhere", "STATE_TAG": "1"}, clear=True
    ):
        future = executor.submit(os.getenv, "STATE_TAG")
        home = executor.submit(os.getenv, "PYTEST_CURRENT_TEST")

    assert future.result(PATIENCE) == "1"
    assert home.result(PATIENCE) is None


def test_a_buffered_map_keeps_its_state(
    make_ours: MakeOurs,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Also calls that it submits later, when results are taken."""

    def look(_: int) -> tuple[str, str | None]:
        return str(Path.cwd()), os.environ.get("STATE_TAG")

    before = str(Path.cwd())
    monkeypatch.setenv("STATE_TAG", "at map")
    executor = make_ours(**options)
    results = executor.map(look, range(4), buffersize=1)
    monkeypatch.setenv("STATE_TAG", "later")
    monkeypatch.chdir(tmp_path)

    assert list(results) == [(before, "at map")] * 4


def test_environment_that_changes_splits_no_submission(
    make_ours: MakeOurs, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of a loop are one job array, as ever, though each has its own."""
    executor = make_ours(max_workers=1)
    first = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    futures = []
    for number in range(20):
        monkeypatch.setenv("STATE_TAG", str(number))
        futures.append(executor.submit(os.getenv, "STATE_TAG"))
    gate.open()

    assert [each.result(PATIENCE) for each in futures] == list(map(str, range(20)))
    assert first.result(PATIENCE) == "a"
    assert len({Path(str(each.directory)).parents[2] for each in futures}) <= 3


def test_setup_lines_have_the_last_word(
    make_ours: MakeOurs, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They begin with the environment of the program, and what they set stays."""
    monkeypatch.setenv("STATE_MODULES", "base")
    setup = "export STATE_MODULES=gcc:$STATE_MODULES"
    executor = make_ours(setup=setup, **options)
    first = executor.submit(os.getenv, "STATE_MODULES")
    monkeypatch.setenv("STATE_OTHER", "new")
    second = executor.map(os.getenv, ["STATE_MODULES", "STATE_OTHER"])

    assert first.result(PATIENCE) == "gcc:base"
    assert list(second) == ["gcc:base", "new"]


def test_variables_of_the_job_are_its_own(
    make_ours: MakeOurs, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that Slurm sets there, whatever the program has under their name."""
    monkeypatch.setenv("SLURM_JOB_ID", "of the program")
    executor = make_ours(**options)
    first = executor.submit(os.getenv, "SLURM_JOB_ID")
    monkeypatch.setenv("SLURM_JOB_ID", "changed")
    second = executor.submit(os.getenv, "SLURM_JOB_ID")

    assert str(first.result(PATIENCE)).isdigit()
    assert str(second.result(PATIENCE)).isdigit()


def test_what_an_initializer_sets_stays(
    make_ours: MakeOurs, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for calls that have been submitted in another state."""
    executor = make_ours(
        **options,
        initializer=set_variable,
    )
    first = executor.submit(os.getenv, "STATE_INITIALIZER")
    monkeypatch.setenv("STATE_INITIALIZER", "no")
    second = executor.submit(os.getenv, "STATE_INITIALIZER")

    assert first.result(PATIENCE) == "yes"
    assert second.result(PATIENCE) == "yes"


def test_search_path_and_arguments_are_those_at_submit(
    make_ours: MakeOurs,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The function is looked for where the program found it."""

    def look() -> tuple[list[str], bool]:
        return sys.argv, "/state/of/the/caller" in sys.path

    executor = make_ours(**options)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["sweep.py", "--fast"])
        patch.setattr(sys, "path", [*sys.path, "/state/of/the/caller"])
        changed = executor.submit(look)
    usual = executor.submit(look)

    assert changed.result(PATIENCE) == (["sweep.py", "--fast"], True)
    assert usual.result(PATIENCE) == (sys.argv, False)


@pytest.mark.usefixtures("own_settings")
def test_settings_of_the_standard_library_travel(
    make_ours: MakeOurs, options: dict[str, Any]
) -> None:
    """Decimal context, recursion limit, limit for digits: as at submit, and again."""
    executor = make_ours(**options)
    before = settings()
    first = executor.submit(settings)
    sys.setrecursionlimit(4321)
    sys.set_int_max_str_digits(0)
    decimal.getcontext().prec = 50
    decimal.getcontext().rounding = decimal.ROUND_FLOOR
    decimal.getcontext().traps[decimal.Inexact] = True
    changed = settings()
    second = executor.submit(settings)
    decimal.setcontext(decimal.DefaultContext)
    sys.setrecursionlimit(before[0])
    sys.set_int_max_str_digits(before[1])
    third = executor.submit(settings)

    assert second.result(PATIENCE) == changed == (4321, 0, 50, "ROUND_FLOOR", True)
    assert first.result(PATIENCE) == third.result(PATIENCE) == before


@pytest.mark.usefixtures("own_settings")
def test_warnings_are_filtered_as_at_submit(
    make_ours: MakeOurs, options: dict[str, Any]
) -> None:
    """By category, also one of the program, and by text."""
    executor = make_ours(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OwnWarning)
        error = executor.submit(warn, "any")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ignored = executor.submit(warn, "any")
        warnings.filterwarnings("error", message="THIS one", module=".*test_state")
        by_text = executor.submit(warn, "this one too")
        other_text = executor.submit(warn, "not this one")

    assert error.result(PATIENCE) == "raised any"
    assert ignored.result(PATIENCE) == "passed"
    assert by_text.result(PATIENCE) == "raised this one too"
    assert other_text.result(PATIENCE) == "passed"


def test_a_call_that_is_tried_again_finds_its_state(
    make_ours: MakeOurs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That of its submit, though the program has gone on since."""
    marker = tmp_path / "tried"

    def fail_once() -> str | None:
        if not marker.exists():
            marker.touch()
            raise ConnectionError
        return os.environ.get("STATE_TAG")

    executor = make_ours(retries={ConnectionError: 1})
    monkeypatch.setenv("STATE_TAG", "mine")
    future = executor.submit(fail_once)
    monkeypatch.setenv("STATE_TAG", "later")

    assert future.result(PATIENCE) == "mine"
    assert future.attempts == 2


def test_a_state_that_cannot_be_entered_fails_the_call(
    make_ours: MakeOurs, options: dict[str, Any]
) -> None:
    """And no other one; here a recursion limit that is too low to go on with."""
    executor = make_ours(**options)
    with mock.patch.object(sys, "getrecursionlimit", return_value=1):
        future = executor.submit(abs, -1)
    other = executor.submit(abs, -2)

    assert isinstance(future.exception(PATIENCE), RecursionError)
    assert other.result(PATIENCE) == 2
