"""The files of a run, as the client makes and finds them."""

import errno
import json
import os
import random
import shutil
import stat
import time
from pathlib import Path
from unittest import mock

import pytest

from slurm_futures.errors import SlurmFuturesError
from slurm_futures.node import worker
from slurm_futures.node.formats import USAGE, VALUE, leave_mark, pack_outcome
from slurm_futures.runs.files import FORMAT, ForeignFileError, read_json
from slurm_futures.runs.finished import Record, are_complete
from slurm_futures.runs.job import JobDirectory
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.submission import Death, Ends, SubmissionDirectory
from tests.unit.fakes import finished_path

#: What a job that ends well leaves in its directory.
JOB_FILES = ["started", "stdout", "stderr"]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Give a new run."""
    return RunDirectory.create(tmp_path / "runs", "fit").fill()


@pytest.fixture
def submission(run: RunDirectory) -> SubmissionDirectory:
    """Give a submission of 1,500 jobs."""
    made = run.submission(1)
    made.create(1500)
    return made


def test_run_is_private_and_holds_its_own_worker(run: RunDirectory) -> None:
    """An upgrade of the package does not break jobs that are queued."""
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert (run.path / "worker.py").read_bytes() == Path(worker.__file__).read_bytes()
    assert run.logs.is_dir()
    assert "-fit-" in run.path.name


def test_run_never_takes_the_directory_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two programs may start in the same second."""
    suffixes = iter([["a"] * 4, ["a"] * 4, ["b"] * 4])
    monkeypatch.setattr(random, "choices", lambda *_, **__: next(suffixes))
    monkeypatch.setattr(time, "strftime", lambda _: "20261122-150942")

    first = RunDirectory.create(tmp_path, "fit").fill()
    second = RunDirectory.create(tmp_path, "fit").fill()

    assert first.path.name == "20261122-150942-fit-aaaa"
    assert second.path.name == "20261122-150942-fit-bbbb"


def test_client_makes_no_directory_for_each_job(
    submission: SubmissionDirectory,
) -> None:
    """Two for each thousand jobs."""
    names = {
        str(path.relative_to(submission.path)) for path in submission.path.rglob("*")
    }

    assert names == {
        "jobs",
        "jobs/0-999",
        "jobs/1000-1999",
        "finished",
        "finished/0-999",
        "finished/1000-1999",
    }
    assert submission.path.name == "0001"


@pytest.mark.parametrize(
    ("index", "block"), [(0, "0-999"), (999, "0-999"), (1000, "1000-1999")]
)
def test_jobs_lie_in_blocks(
    submission: SubmissionDirectory, index: int, block: str
) -> None:
    """No directory has more than a thousand entries."""
    expected = submission.path / "jobs" / block / str(index)

    assert submission.job(index).path == expected


@pytest.mark.parametrize(
    ("array", "name"), [(True, "%A_%a"), (False, "%j")], ids=["array", "job"]
)
def test_log_has_slurms_wild_cards_only(tmp_path: Path, array: bool, name: str) -> None:
    """A percent sign in the path is doubled."""
    submission = RunDirectory(tmp_path / "100%j").submission(3)

    pattern = submission.log_pattern(array=array)

    assert pattern == f"{tmp_path}/100%%j/logs/{name}"


def test_only_one_attempt_is_allowed(submission: SubmissionDirectory) -> None:
    """The mark moves on."""
    submission.allow_attempt(1)
    submission.allow_attempt(2)

    assert [path.name for path in submission.path.glob("attempt-*")] == ["attempt-2"]


def test_finished_jobs_are_found_by_listing(submission: SubmissionDirectory) -> None:
    """And those that have begun; blocks in which no job is open are passed over."""
    for index in (3, 1001):
        finished_path(submission, index).touch()
    for name in ("4.0-c17.site.org-99", "5.ending", "x.ending", "6.died"):
        finished_path(submission, 0).with_name(name).touch()

    assert submission.list_ends(["0-999"]) == Ends({4}, {3}, {6}, {5})
    both = submission.list_ends(["0-999", "1000-1999"])
    assert both == Ends({4}, {3, 1001}, {6}, {5})
    assert submission.list_ends([]) == Ends(set(), set(), set(), set())


def test_block_that_is_gone_hides_no_other_one(submission: SubmissionDirectory) -> None:
    """Whoever deletes old directories may begin with an empty one."""
    finished_path(submission, 3).touch()
    finished_path(submission, 1000).parent.rmdir()

    ends = submission.list_ends(["1000-1999", "0-999"])

    assert ends.finished == {3}


def test_listing_a_submission_that_is_gone_is_an_error(
    submission: SubmissionDirectory,
) -> None:
    """No news is told apart from no jobs."""
    submission.remove()

    with pytest.raises(FileNotFoundError):
        submission.list_ends(["0-999"])


def test_deaths_of_two_attempts_are_told_apart(submission: SubmissionDirectory) -> None:
    """By the number of the attempt, since the exit code is mostly the same."""
    mark = finished_path(submission, 0).with_name("0.died")
    for attempt in range(2):
        leave_mark(str(mark), f"137 {attempt}")

        assert submission.read_death(0) == Death(137, attempt)


@pytest.mark.parametrize("content", ["", "what?\n", "137 1\n"])
def test_mark_where_there_are_no_symbolic_links(
    submission: SubmissionDirectory, content: str
) -> None:
    """A file that is empty is not there yet."""
    finished_path(submission, 0).with_name("0.died").write_text(content)

    death = submission.read_death(0)

    assert (death and death.exit_code) == (137 if content == "137 1\n" else None)


def test_mark_that_is_not_there_is_none(submission: SubmissionDirectory) -> None:
    """A listing may be older than a removal."""
    assert submission.read_death(0) is None


def test_removed_submission_leaves_nothing(submission: SubmissionDirectory) -> None:
    """Whatever its jobs have left, complete or not."""
    for index, files in ((3, JOB_FILES), (1001, ["stdout", "core.17"]), (5, [])):
        submission.job(index).path.mkdir()
        for name in files:
            (submission.job(index).path / name).touch()
    (submission.job(5).path / "folder").mkdir()
    finished_path(submission, 3).touch()
    leave_mark(str(finished_path(submission, 1001)) + ".died", "1")

    submission.remove()

    assert not submission.path.exists()
    submission.remove()  # which does nothing


def test_removing_costs_no_walk(
    submission: SubmissionDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the directories of jobs that ended well."""
    for index in range(50):
        submission.job(index).path.mkdir()
        for name in JOB_FILES:
            (submission.job(index).path / name).touch()
    opened: list[object] = []
    scan = os.scandir

    def count(path: int | str | os.PathLike[str]) -> object:
        opened.append(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", count)

    submission.remove()

    assert not submission.path.exists()
    assert len(opened) < 10


def test_log_is_read_to_its_end(
    run: RunDirectory, submission: SubmissionDirectory
) -> None:
    """Slurm's last words count."""
    (run.logs / "77_1").write_bytes(b"x" * 10_000 + b"\xff DUE TO TIME LIMIT\n\n")

    text = submission.read_log("77_1")

    assert text.endswith("\N{REPLACEMENT CHARACTER} DUE TO TIME LIMIT")
    assert len(text) < 5000
    assert submission.read_log("78") == ""


def test_empty_logs_are_removed(run: RunDirectory) -> None:
    """Slurm makes one for each job, and mostly has nothing to say."""
    (run.logs / "77_0").touch()
    (run.logs / "77_1").write_text("oom_kill event")

    run.remove_empty_logs()

    assert [path.name for path in run.logs.iterdir()] == ["77_1"]


def test_run_lists_its_submissions(
    run: RunDirectory, submission: SubmissionDirectory
) -> None:
    """And nothing else; one that is gone has none."""
    entries = list(run.entries())
    run.remove()

    assert entries == [submission.path]
    assert list(run.entries()) == []
    run.remove_empty_logs()


def test_facts_are_written_for_people(
    run: RunDirectory, submission: SubmissionDirectory
) -> None:
    """As JSON, whatever the values are."""
    run.describe({"cwd": Path("/home/me")})
    submission.describe({"job_id": "77"})

    assert json.loads((run.path / "run.json").read_text()) == {
        "format": FORMAT,
        "cwd": "/home/me",
    }
    assert read_json(submission.path / "submission.json") == {
        "format": FORMAT,
        "job_id": "77",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format": 99, "slurm_futures": "7.1"}', "has the format 99.*: 7.1"),
        ("{}", "says nothing of a format"),
        ("[1]", "says nothing of a format"),
        ("{", "says nothing of a format"),
    ],
)
def test_facts_in_another_format_are_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    """Rather than misread."""
    path = tmp_path / "run.json"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(SlurmFuturesError, match=f"(?s){words}"):
        read_json(path)


@pytest.fixture
def job(submission: SubmissionDirectory) -> JobDirectory:
    """Give the directory of a job that has begun."""
    made = submission.job(7)
    made.path.mkdir()
    return made


def test_job_directory_exists_once_the_job_has_begun(
    submission: SubmissionDirectory, job: JobDirectory
) -> None:
    """Without asking for a name that may not be there."""
    assert job.exists()
    assert not submission.job(8).exists()
    assert not submission.job(5000).exists()


def test_error_of_a_listing_is_not_taken_for_an_answer(
    run: RunDirectory,
    submission: SubmissionDirectory,
    job: JobDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What cannot be listed now may hold something all the same."""

    def fail(path: object) -> list[str]:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "listdir", fail)
    monkeypatch.setattr(Path, "iterdir", fail)

    with pytest.raises(OSError, match="Stale"):
        job.exists()
    with pytest.raises(OSError, match="Stale"):
        submission.finished.read_left(7)
    with pytest.raises(OSError, match="Stale"):
        submission.finished.withdraw(7)
    with pytest.raises(OSError, match="Stale"):
        list(run.entries())


def test_outcomes_that_get_another_name_meanwhile_are_not_overlooked(
    submission: SubmissionDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that lives on has published them after the listing."""
    monkeypatch.setattr(os, "listdir", lambda _: ["7.0-c17-99"])

    with pytest.raises(FileNotFoundError):
        submission.finished.read_left(7)
    assert not submission.finished.withdraw(7)


def test_job_directory_knows_its_node(job: JobDirectory) -> None:
    """That of the last attempt; None before."""
    before = job.node()
    (job.path / "started").touch()
    empty = job.node()
    (job.path / "started").write_text("c17 77 1\n")

    assert (before, empty, job.node()) == (None, None, "c17")


def write_records(submission: SubmissionDirectory, *names: str) -> list[Record]:
    """Write files with a record each; return these, in this order."""
    records = [(at, VALUE, name.encode()) for at, name in enumerate(names)]
    for name, record in zip(names, records, strict=True):
        path = finished_path(submission, 0).with_name(name)
        path.write_bytes(pack_outcome(*record))
    return records


def test_what_all_attempts_have_left_is_read(submission: SubmissionDirectory) -> None:
    """Each counts, also one that was withdrawn."""
    names = "7", "7.0-c17.site.org-99", "7.1-c18-5.withdrawn"
    records = write_records(submission, *names)
    leave_mark(f"{finished_path(submission, 7)}.died", "1 0")

    assert submission.finished.read_left(7) == records
    assert submission.finished.read_left(8) == []


def test_what_a_call_has_used_is_no_outcome() -> None:
    """A file that ends there is cut short."""
    usage, outcome = (0, USAGE, b""), (0, VALUE, b"")

    assert not are_complete([usage], 1)
    assert are_complete([usage, outcome], 1)


def test_attempts_are_withdrawn_and_restored(submission: SubmissionDirectory) -> None:
    """Whatever is not over yet of this job, and nothing else."""
    names = {"7", "7.0-c17.site.org-99", "7.1-c18-5", "7.died", "8.0-c17-98"}
    write_records(submission, *names)
    block = finished_path(submission, 0).parent

    assert submission.finished.withdraw(7)
    assert not submission.finished.withdraw(7)
    left = {"7", "7.died", "8.0-c17-98"}
    gone = {"7.0-c17.site.org-99.withdrawn", "7.1-c18-5.withdrawn"}
    assert set(os.listdir(block)) == left | gone
    submission.finished.restore(7)
    assert set(os.listdir(block)) == names


def test_file_of_another_user_is_never_read(
    submission: SubmissionDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be unpickled."""
    write_records(submission, "7", "7.0-c17-99")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(ForeignFileError, match="only your own files are unpickled"):
        submission.finished.read(7)
    assert submission.finished.read_left(7) == []


def test_large_file_is_read_in_parts(
    submission: SubmissionDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux reads at most 2 GiB at a time."""
    records = write_records(submission, "7")
    read = os.read
    monkeypatch.setattr(os, "read", lambda file, size: read(file, min(size, 3)))

    assert submission.finished.read(7) == records


def test_output_is_text_whatever_was_printed(job: JobDirectory) -> None:
    """Bytes that are no UTF-8 are shown as such."""
    (job.path / "stderr").write_bytes(b"one\nepoch 3\xff\n")

    assert job.stderr() == "one\nepoch 3\N{REPLACEMENT CHARACTER}\n"
    assert job.stderr_tail() == "one\nepoch 3\N{REPLACEMENT CHARACTER}"
    assert job.stdout() == ""


def test_removal_never_raises(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that shutil does not ignore is a line in the log."""
    caplog.set_level("INFO", "slurm_futures")
    stale = OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    monkeypatch.setattr(shutil, "rmtree", mock.Mock(side_effect=stale))

    run.remove()

    assert "stays as it is" in caplog.text
    assert os.strerror(errno.ESTALE) in caplog.text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("link", "is a symbolic link"),
        ("pipe", "is not a regular file"),
        ("open", r"can be written by others \(mode 666\)"),
    ],
)
def test_outcomes_that_others_may_have_written_are_refused(
    run: RunDirectory, tmp_path: Path, kind: str, words: str
) -> None:
    """They are not unpickled; and nobody waits for the writer of a pipe."""
    submission = run.submission(1)
    submission.create(1)
    file = finished_path(submission, 0)
    (tmp_path / "elsewhere").write_bytes(b"")
    match kind:
        case "link":
            file.symlink_to(tmp_path / "elsewhere")
        case "pipe":
            os.mkfifo(file, 0o600)
        case "open":
            file.touch()
            file.chmod(0o666)

    with pytest.raises(ForeignFileError, match=words):
        submission.finished.read(0)
