"""What is captured of the state of a caller, and what of it is written down."""

import decimal
import os
import threading
import warnings

import pytest

from slurm_futures.calls.state import CallerState, capture_state


def test_a_state_that_has_not_changed_is_the_same_object() -> None:
    """A loop of submits compares, and captures once."""
    assert capture_state() is capture_state()


def test_a_state_knows_the_whole_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was then."""
    monkeypatch.setenv("STATE_A", "1")
    expected = dict(os.environ)
    state = capture_state()
    monkeypatch.setenv("STATE_A", "2")
    monkeypatch.delenv("PATH")

    assert state.environment() == expected
    assert "PATH" not in capture_state().environment()


def test_only_variables_that_change_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others may be secrets; those of Slurm are the job's own."""
    monkeypatch.setenv("STATE_TOKEN", "secret")
    monkeypatch.setenv("STATE_GOES", "soon")
    base = capture_state()
    monkeypatch.delenv("STATE_GOES")
    monkeypatch.setenv("STATE_COMES", "now")
    monkeypatch.setenv("SLURM_STATE", "now")

    assert base.describe(base, "/")["environment"] == {}
    assert capture_state().describe(base, "/")["environment"] == {
        "STATE_GOES": ("soon", None),
        "STATE_COMES": (None, "now"),
    }


def test_an_environment_that_was_replaced_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some programs put a plain dict into its place."""
    monkeypatch.setattr(os, "environ", {"STATE_ONLY": "1"})

    assert capture_state().environment() == {"STATE_ONLY": "1"}


def test_the_decimal_context_is_that_of_the_thread() -> None:
    """As in the standard library."""
    found: list[CallerState] = []
    with decimal.localcontext() as context:
        context.prec = 50
        thread = threading.Thread(target=lambda: found.append(capture_state()))
        thread.start()
        thread.join()
        found.append(capture_state())

    assert found[0].settings["decimal"] is None
    assert found[1].settings["decimal"][0][0] == 50


def test_filters_of_a_fresh_python_are_not_sent() -> None:
    """No job must import `warnings` for them."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.simplefilter("ignore", ImportWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        entry = ("default", None, DeprecationWarning, "__main__", 0)
        warnings.filters.insert(0, entry)  # type: ignore[attr-defined]  # it is a list
        state = capture_state()

    assert state.settings["filters"] is None
