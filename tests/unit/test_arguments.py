"""What the constructor refuses, before there is a file or a thread."""

import math
import threading
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import OptionError, Retries, SlurmExecutor

_TIMES = ["idle_timeout", "poll_interval", "grace", "pending_timeout"]


@pytest.mark.parametrize("name", _TIMES)
@pytest.mark.parametrize("value", ["1:00", -1, math.nan, True, [5]])
def test_times_are_seconds(name: str, value: object, tmp_path: Path) -> None:
    """The error says what to write, and nothing is left behind."""
    options: dict[str, Any] = {name: value}

    with pytest.raises(OptionError, match=f"Write it like {name}=30"):
        SlurmExecutor(scheduler="local", directory=tmp_path / "runs", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["idle_timeout", "grace"])
def test_these_times_cannot_be_none(name: str, tmp_path: Path) -> None:
    """There is no "for ever" but infinity, which says so."""
    options: dict[str, Any] = {name: None}

    with pytest.raises(OptionError, match=f"{name}=None is not a number of seconds"):
        SlurmExecutor(scheduler="local", directory=tmp_path, **options)


def test_times_may_be_infinite(tmp_path: Path) -> None:
    """But for the one between two queries."""
    for_ever = math.inf
    with SlurmExecutor(
        scheduler="local",
        directory=tmp_path,
        idle_timeout=for_ever,
        grace=for_ever,
        pending_timeout=for_ever,
    ) as executor:
        assert executor.submit(abs, -1).result(60) == 1
    with pytest.raises(
        OptionError, match="poll_interval=inf is not a number of seconds"
    ):
        SlurmExecutor(scheduler="local", directory=tmp_path, poll_interval=for_ever)


def test_words_of_keep_are_named(tmp_path: Path) -> None:
    """A typing error shows the right words."""
    keep: Any = "allways"
    with pytest.raises(OptionError, match='Write keep="failed", "always" or "never"'):
        SlurmExecutor(scheduler="local", directory=tmp_path, keep=keep)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"max_workers": 2.5}, TypeError, id="max_workers=2.5"),
        pytest.param({"max_workers": math.nan}, TypeError, id="max_workers=nan"),
        pytest.param({"initializer": int, "initargs": 5}, TypeError, id="initargs=5"),
        pytest.param(
            {"initializer": int, "initargs": (threading.Lock(),)},
            TypeError,
            id="initargs=lock",
        ),
        pytest.param({"retries": -1}, OptionError, id="retries=-1"),
        pytest.param({"retries": "x"}, OptionError, id="retries=x"),
        pytest.param({"scheduler": 5}, OptionError, id="scheduler=5"),
        pytest.param({"python": []}, OptionError, id="python=[]"),
        pytest.param({"python": ""}, OptionError, id="python=''"),
        pytest.param({"comment": "\ud800"}, OptionError, id="comment=surrogate"),
        pytest.param({"setup": "echo \ud800"}, OptionError, id="setup=surrogate"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    options: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    """In our words, or as ProcessPoolExecutor and pickle do."""
    options = {"scheduler": "local", **options}

    with pytest.raises(error):
        SlurmExecutor(directory=tmp_path / "runs", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_factor": math.nan}, "numbers of 1 or more"),
        ({"memory_factor": math.inf}, "numbers of 1 or more"),
        ({"memory_factor": "2"}, "numbers of 1 or more"),
        ({"times": 5}, "is not a mapping"),
    ],
)
def test_bad_retries_are_refused_before_the_first_failure(
    options: dict[str, Any], message: str
) -> None:
    """Not by the poller, when a job has failed."""
    with pytest.raises(OptionError, match=message):
        Retries(**options)
