"""The files of a run: what stays when an executor shuts down."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_futures import OptionError, SlurmExecutor
from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.calls.pickler import dump
from slurm_futures.runs.place import check_directory
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.script import ScriptTemplate
from slurm_futures.runs.writer import Writer, WrittenSubmission
from slurm_futures.schedulers.sbatch_options import Kind, SbatchOptions
from tests.unit.fakes import FakeScheduler


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """Give a run that keeps what failed, and does not exist yet."""
    return Writer(tmp_path, ScriptTemplate(("python3",)), None, "failed")


def write(writer: Writer, jobs: int = 1) -> WrittenSubmission:
    """Write a submission of jobs of one call."""
    call = PickledCall(dump(abs), dump_arguments((-1,), {}))
    return writer.write(Kind(SbatchOptions(), "/"), "fit", [[call]] * jobs, None)


def test_what_failed_stays_where_the_run_cannot_be_listed(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that passes does not mean that there is nothing to keep."""
    submission = write(writer).directory
    writer.note_failure(submission.job(0).path)
    writer.note_over(submission)

    def fail(run: RunDirectory) -> Iterator[Path]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(RunDirectory, "entries", fail)
    writer.clean()

    assert submission.script.exists()


def test_nothing_stays_where_all_went_well(writer: Writer, tmp_path: Path) -> None:
    """Not even the directory of the run."""
    writer.note_over(write(writer).directory)

    writer.clean()

    assert list(tmp_path.iterdir()) == []


def test_only_what_belongs_to_calls_that_failed_stays(writer: Writer) -> None:
    """Of jobs that went well nothing does, whatever they have left behind."""
    submission = write(writer, 1500).directory
    for index in range(1500):
        job = submission.job(index).path
        job.mkdir()
        for name in ("started", "stdout", "stderr"):
            (job / name).touch()
        submission.finished.file(index).touch()
    (submission.job(8).path / "more").mkdir()
    (submission.path / "finished/0-999/9.0-n1-1").mkdir()
    for index in (7, 1400):
        writer.note_failure(submission.job(index).path)
    writer.note_over(submission)

    writer.clean()

    left = {str(path.relative_to(submission.path)) for path in _files(submission.path)}
    assert left == {
        *("script.sh", "calls.pkl", "attempt-1", "emptied"),
        *("finished/0-999/7", "finished/1000-1999/1400"),
        *(f"jobs/0-999/7/{name}" for name in ("started", "stdout", "stderr")),
        *(f"jobs/1000-1999/1400/{name}" for name in ("started", "stdout", "stderr")),
    }


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if not path.is_dir()]


def test_forked_child_does_not_wait_for_a_thread_of_its_parent(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that held the lock at the fork does not exist in the child."""
    monkeypatch.setattr(os, "getpid", lambda: 0)

    with writer._lock:
        writer.finish()


def test_two_threads_may_clean_up_at_once(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that shut the same executor down, say."""
    writer.note_over(write(writer).directory)
    entries = RunDirectory.entries
    seen: list[RunDirectory] = []

    def let_another_one_clean_first(run: RunDirectory) -> Iterator[Path]:
        seen.append(run)
        if len(seen) == 1:
            writer.clean()
        return entries(run)

    monkeypatch.setattr(RunDirectory, "entries", let_another_one_clean_first)

    writer.clean()

    assert len(seen) == 2
    assert list(tmp_path.iterdir()) == []
    assert writer.run is None


def test_template_that_is_spoilt_later_fails_its_calls(
    tmp_path: Path, scheduler: FakeScheduler
) -> None:
    """With words about it; nothing is left of the submission."""
    template = tmp_path / "ours.j2"
    template.write_text("{% extends base %}")
    runs = tmp_path / "runs"
    with SlurmExecutor(
        scheduler=scheduler, directory=runs, template=template
    ) as executor:
        template.write_text("{% extends base %}{{ spoilt")
        error = executor.submit(abs, -1).exception(60)
        assert list(runs.glob("*/0*")) == []

    assert isinstance(error, OptionError)
    assert f"The template {template} cannot be used" in str(error)


@pytest.mark.parametrize("char", ["\\", "\n", "\r", "\0"])
def test_path_with_which_slurm_cannot_deal_is_refused(
    tmp_path: Path, char: str
) -> None:
    """By the constructor of the executor, before any job vanishes."""
    with pytest.raises(OptionError, match="cannot create files"):
        check_directory(tmp_path / f"a{char}b")


def test_ordinary_path_is_accepted(tmp_path: Path) -> None:
    """Blanks, percent signs and quotes are ordinary."""
    check_directory(tmp_path / "mé" / "my runs" / "100%" / "it's")


def test_a_directory_is_looked_at_again_for_each_submission(
    writer: Writer, tmp_path: Path
) -> None:
    """Somebody may have opened it meanwhile; nothing is written until it is closed."""
    write(writer)
    run = writer.run
    assert run is not None
    before = sorted(run.path.iterdir())
    tmp_path.chmod(0o777)

    with pytest.raises(OptionError, match=f"Type 'chmod go-w {tmp_path}'"):
        write(writer)

    assert sorted(run.path.iterdir()) == before
    tmp_path.chmod(0o755)
    assert write(writer).directory.script.exists()


@pytest.mark.parametrize("name", ["", "start.py", "node.bundle"])
def test_a_run_to_which_others_may_write_gets_no_calls(
    writer: Writer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """What lies in it may be of others by now; another one is made."""
    write(writer)
    assert writer.run is not None
    first = writer.run.path
    (first / name).chmod(0o777)

    second = write(writer).directory.path.parent

    assert second != first
    assert f"{first} was deleted, replaced, or opened to others" in caplog.text


@pytest.mark.parametrize("how", ["owner", "link"])
def test_a_run_that_somebody_has_replaced_gets_no_calls(
    writer: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Jobs would not use it; another one is made, and the log says so."""
    write(writer)
    assert writer.run is not None
    first = writer.run.path
    if how == "link":
        first.rename(tmp_path / "elsewhere")
        first.symlink_to("elsewhere")
    elif os.geteuid() != 0:
        pytest.skip("needs root: it uses chown")
    else:
        os.chown(first, 12345, 12345)

    second = write(writer).directory.path.parent

    assert second != first
    assert f"{first} was deleted, replaced, or" in caplog.text
