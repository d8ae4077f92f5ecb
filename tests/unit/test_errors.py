"""Errors: what they hold survives pickling and copying."""

import pickle
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import errors
from slurm_futures.errors import (
    ArgumentFailed,
    Detached,
    DetachError,
    InitializerFailed,
    JobFailed,
    JobState,
    OptionError,
    OutcomeNotReadable,
    Refusal,
    RemoteTraceback,
    RunInUse,
    RunNotFound,
    SchedulerError,
    SlurmFuturesError,
    SubmitError,
    words_of,
)

JOB_ERRORS: list[type[JobFailed]] = [JobFailed, *JobFailed.__subclasses__()]
FACTS: dict[str, Any] = {  # Any: the arguments of the constructor
    "job_id": "5_7",
    "state": JobState.TIMEOUT,
    "exit_code": 143,
    "signal": 15,
    "node": "c17",
    "stderr_tail": "epoch 3",
    "directory": Path("/run/0001/jobs/0-999/7"),
}
EXAMPLES: list[SlurmFuturesError] = [
    SlurmFuturesError("text"),
    OptionError("text"),
    SchedulerError("text", command=["squeue", "-h"], exit_code=1, stderr="down"),
    SubmitError("text", refusal=Refusal.QUOTA, command=["sbatch"], stderr="no"),
    ArgumentFailed("text"),
    InitializerFailed("text"),
    OutcomeNotReadable("text", "Traceback ..."),
    RunInUse("text", host="login1", pid=4711),
    RunNotFound("text"),
    Detached("text"),
    DetachError("text", missing=12),
    RemoteTraceback("Traceback ..."),
    *(cls("text", **FACTS) for cls in JOB_ERRORS),
]


def by_name(value: object) -> str:
    """Return what the id of a test shows."""
    return type(value).__name__


def test_every_error_has_an_example() -> None:
    """A new class is tested as well."""
    classes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, SlurmFuturesError)
    }

    assert classes == {type(example) for example in EXAMPLES}


@pytest.mark.parametrize("error", EXAMPLES, ids=by_name)
def test_error_survives_pickling(error: SlurmFuturesError) -> None:
    """Programs send them through queues of their own."""
    loaded = pickle.loads(pickle.dumps(error))

    assert type(loaded) is type(error)
    assert str(loaded) == str(error)
    assert loaded.args == error.args
    assert vars(loaded) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=by_name)
def test_copy_is_the_same_error_with_its_cause(error: SlurmFuturesError) -> None:
    """Each future raises one of its own, and tracebacks do not pile up."""
    cause = ValueError("the reason")
    original = error.copy()
    original.__cause__ = cause
    original.add_note("seen twice")

    copied = original.copy()

    assert copied is not original
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert copied.__cause__ is cause
    assert vars(copied) == vars(original)
    assert copied.__traceback__ is None


@pytest.mark.parametrize("cls", [*JOB_ERRORS, InitializerFailed])
def test_dead_job_is_a_broken_executor(cls: type[SlurmFuturesError]) -> None:
    """What programs written for ProcessPoolExecutor catch."""
    assert issubclass(cls, BrokenExecutor)


def test_exception_that_cannot_tell_its_text_has_one_all_the_same() -> None:
    """Its class is the program's own, and may do anything."""

    class Silent(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert words_of(Silent("text")) == "<its __str__ raised SystemExit>"
    assert words_of(ValueError("text")) == "text"


def test_wrong_option_is_a_value_error() -> None:
    """As with any function."""
    assert issubclass(OptionError, ValueError)


def test_missing_run_is_a_missing_file() -> None:
    """As a path that is opened."""
    assert issubclass(RunNotFound, FileNotFoundError)


def test_refusal_is_permanent_unless_it_says_otherwise() -> None:
    """Nothing is tried again without a reason."""
    assert SubmitError("no").refusal is Refusal.PERMANENT


def test_remote_traceback_shows_its_text() -> None:
    """Set off from the local one, as the standard library does it."""
    assert str(RemoteTraceback("Traceback ...\n")) == '\n"""\nTraceback ...\n"""'
