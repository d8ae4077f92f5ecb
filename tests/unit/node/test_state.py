"""How the state of the caller is entered, with what the job has of its own."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from slurm_futures.node import state

_PLAIN: dict[str, Any] = {
    "environment": {},
    "path": ["/client"],
    "argv": ["sweep.py"],
    "recursion": None,
    "digits": None,
    "decimal": None,
    "filters": None,
}


@pytest.fixture(autouse=True)
def _job(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be a job that has just begun."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    state.begin(exported=True)
    yield
    monkeypatch.setattr(state, "_entered", None)


def test_entries_that_a_job_adds_to_its_path_stay() -> None:
    """In front or behind, as an initializer has put them there."""
    state.enter(_PLAIN)
    assert sys.path == ["/client"]
    sys.path.insert(0, "/front")
    sys.path.append("/behind")

    state.enter({**_PLAIN, "path": ["/other", "/client"]})

    assert sys.path == ["/front", "/other", "/client", "/behind"]


@pytest.mark.parametrize(
    ("exported", "of_job", "expected"),
    [
        (True, "base", "new"),
        (True, "set by setup", "set by setup"),
        (False, "base", "base"),
    ],
)
def test_a_variable_that_the_job_has_changed_stays(
    monkeypatch: pytest.MonkeyPatch, exported: bool, of_job: str, expected: str
) -> None:
    """And all of them, where sbatch was told not to export any."""
    monkeypatch.setenv("STATE_A", of_job)
    state.begin(exported=exported)

    state.enter({**_PLAIN, "environment": {"STATE_A": ("base", "new")}})
    assert os.environ["STATE_A"] == expected

    state.enter(_PLAIN)
    assert os.environ["STATE_A"] == of_job


def test_variables_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """From one call of a worker to the next."""
    monkeypatch.setenv("STATE_GOES", "soon")
    monkeypatch.delenv("STATE_COMES", raising=False)
    changes = {"STATE_GOES": ("soon", None), "STATE_COMES": (None, "now")}

    state.enter({**_PLAIN, "environment": changes})
    assert "STATE_GOES" not in os.environ
    assert os.environ["STATE_COMES"] == "now"

    state.enter({**_PLAIN, "environment": {"STATE_COMES": (None, "then")}})
    assert os.environ["STATE_GOES"] == "soon"
    assert os.environ["STATE_COMES"] == "then"


def test_what_a_call_changes_stays_for_calls_of_the_same_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a process of ProcessPoolExecutor."""
    monkeypatch.setenv("STATE_A", "base")
    changed = {**_PLAIN, "environment": {"STATE_A": ("base", "new")}}
    state.enter(changed)
    os.environ["STATE_A"] = "of a call"

    state.enter(dict(changed))

    assert os.environ["STATE_A"] == "of a call"
