"""What opens as a run, what does not, and the words for that."""

import logging
import os
from pathlib import Path

import pytest

from slurm_futures import (
    RunNotFound,
    SlurmFuturesError,
    list_runs,
    open_run,
)
from slurm_futures.runs.run import RunDirectory

CREATED = "2026-11-29T02:11:22+0100"


def make_run(directory: Path, created: str = CREATED, **facts: object) -> RunDirectory:
    """Make a run without calls."""
    run = RunDirectory.create(directory, "fit").fill()
    run.describe({"created": created, **facts})
    return run


def test_runs_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    """A name is that of a directory."""
    run = make_run(tmp_path)

    assert open_run(run.path.name, tmp_path).path == run.path
    assert open_run(run.path).path == run.path
    assert open_run(run.path, tmp_path).path == run.path


@pytest.mark.parametrize("name", ["nothing", "no/such/path", "zero\0", "n" * 300])
def test_what_is_not_there_is_not_found(tmp_path: Path, name: str) -> None:
    """Programs catch it like a file that is not there."""
    with pytest.raises(RunNotFound, match="list_runs") as caught:
        open_run(name, tmp_path)

    assert isinstance(caught.value, FileNotFoundError)


def test_what_is_no_run_is_not_found(tmp_path: Path) -> None:
    """Neither a file nor some directory."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(RunNotFound, match="is no run, but a file"):
        open_run("file", tmp_path)
    with pytest.raises(RunNotFound, match=r"has no run\.json"):
        open_run("empty", tmp_path)


def test_a_run_that_is_half_deleted_is_refused(tmp_path: Path) -> None:
    """What is left would look like a smaller run."""
    run = make_run(tmp_path)
    (run.path / "run.json").unlink()

    with pytest.raises(SlurmFuturesError, match="parts were deleted") as caught:
        open_run(run.path)

    assert not isinstance(caught.value, RunNotFound)


def test_a_run_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening it would run what is pickled there."""
    run = make_run(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)

    with pytest.raises(SlurmFuturesError, match=r"belongs to .*your own"):
        open_run(run.path)


def test_a_run_in_another_format_is_refused(tmp_path: Path) -> None:
    """With the version that can read it."""
    run = make_run(tmp_path, format=99, slurm_futures="7.1")

    with pytest.raises(SlurmFuturesError, match=r"format 99(.|\n)*7\.1"):
        open_run(run.path)


def test_a_run_description_that_others_could_write_is_refused(tmp_path: Path) -> None:
    """As all files that decide what is unpickled."""
    run = make_run(tmp_path)
    (run.path / "run.json").chmod(0o666)

    with pytest.raises(SlurmFuturesError, match="can be written by others"):
        open_run(run.path)


def test_runs_are_listed_by_their_age(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Clocks with time zones; what is no run is passed over."""
    caplog.set_level(logging.DEBUG, "slurm_futures")
    late = make_run(tmp_path, "2026-11-29T02:00:00+0000", name="fit-2026")
    early = make_run(tmp_path, "2026-11-29T02:30:00+0100")
    (tmp_path / "notes.txt").touch()
    make_run(tmp_path, "yesterday")

    found = list_runs(tmp_path)

    assert [each.path for each in found] == [early.path, late.path]
    assert [each.name for each in found] == [None, "fit-2026"]
    assert all(each.created.tzinfo and each.owner is None for each in found)
    assert not any(found[0].counts.values())
    assert caplog.text.count("is passed over") == 2


def test_there_are_no_runs_where_there_is_no_directory(tmp_path: Path) -> None:
    """Nobody has submitted yet."""
    assert list_runs(tmp_path / "none") == []


def test_a_run_says_what_it_is(tmp_path: Path) -> None:
    """Also when it was deleted in the meantime."""
    directory = make_run(tmp_path, name="fit-2026")

    with open_run(directory.path) as run:
        assert repr(run) == f"<Run name='fit-2026' path={str(run.path)!r} empty>"
        assert repr(run.futures) == f"<0 futures of {run.path}>"
        assert run.name == "fit-2026"
        directory.remove()

        assert repr(run) == f"<Run name='fit-2026' path={str(run.path)!r} deleted>"
        with pytest.raises(RunNotFound, match="was deleted"):
            run.counts()
