"""Where a call runs, and what must be right there before it begins."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from slurm_futures import JobFailed, executor
from tests.contract import executors
from tests.contract.calls import identity
from tests.contract.executors import PATIENCE, MakeOurs

pytestmark = executors.ours

jobs_and_pools = pytest.mark.parametrize("tasks", [1, None], ids=["jobs", "pool"])


def directories() -> tuple[str, str, str]:
    """Return where a call is: as Python, the environment and a program see it."""
    shown = subprocess.run(["pwd"], capture_output=True, text=True, check=True)
    return str(Path.cwd()), os.environ["PWD"], shown.stdout.strip()


def test_pwd_is_the_directory_in_which_a_call_runs(
    make_ours: MakeOurs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As make and other programs trust it to be."""
    monkeypatch.chdir(tmp_path)

    where = make_ours(1).submit(directories).result(PATIENCE)

    assert where == (str(tmp_path), str(tmp_path), str(tmp_path))


def test_a_call_runs_in_the_directory_by_the_name_that_the_user_knows(
    make_ours: MakeOurs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes may know no other one; a $PWD that is out of date does not count."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    monkeypatch.chdir(real)
    pool = make_ours(1)
    monkeypatch.setenv("PWD", str(link))
    by_name = pool.submit(directories)
    assert by_name.result(PATIENCE)[:2] == (str(real), str(link))

    monkeypatch.setenv("PWD", str(tmp_path))
    out_of_date = pool.submit(directories)
    assert out_of_date.result(PATIENCE)[:2] == (str(real), str(real))


@jobs_and_pools
def test_a_directory_that_the_node_cannot_enter_fails_the_call(
    make_ours: MakeOurs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tasks: int | None,
) -> None:
    """Before it runs: what it wrote would be lost. Calls elsewhere are not affected."""
    pool = make_ours(2, max_tasks_per_child=tasks)
    begun = tmp_path / "begun"
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(executor, "current_directory", lambda: "/only/on/login")
        futures = [pool.submit(begun.touch) for _ in range(3)]
    other = pool.submit(identity, 5)

    for future in futures:
        error = future.exception(PATIENCE)
        assert type(error) is JobFailed
        assert "ended before its calls began.\nNode " in str(error)
        assert "submitted, /only/on/login (No such file or directory)." in str(error)
        assert "call os.chdir() before" in str(error)
    assert other.result(PATIENCE) == 5
    assert not begun.exists()


@jobs_and_pools
def test_setup_that_fails_fails_the_calls(
    make_ours: MakeOurs, tmp_path: Path, tasks: int | None
) -> None:
    """With the line and its words; no worker is started for ever."""
    begun = tmp_path / "begun"
    setup = "echo hello\nno-such-module load gcc  # 13"
    pool = make_ours(2, setup=setup, max_tasks_per_child=tasks)

    futures = [pool.submit(begun.touch) for _ in range(9)]

    for future in futures:
        error = future.exception(PATIENCE)
        assert type(error) is JobFailed
        words = str(error).split("\n")
        assert words[0] == f"job {error.job_id} ended before its calls began."
        assert words[1].endswith(
            "failed with exit code 127: no-such-module load gcc  # 13"
        )
        assert words[-2].endswith("no-such-module: command not found")
        assert error.exit_code == 127
    assert not begun.exists()
    assert len(list(pool.directory.glob("[0-9]*"))) < 9


@jobs_and_pools
@pytest.mark.parametrize(
    ("setup", "words"),
    [
        ("exit 0", "the lines of setup= ended the script of the job before Python"),
        ("exec true", "Take out of setup= what ends the script, such as 'exec'"),
    ],
)
def test_setup_that_ends_the_script_fails_the_calls(
    make_ours: MakeOurs, tasks: int | None, setup: str, words: str
) -> None:
    """Also with exit code 0; with exec, of which no trap tells, after the grace."""
    pool = make_ours(1, setup=setup, max_tasks_per_child=tasks, grace=1)

    error = pool.submit(abs, -1).exception(PATIENCE)

    assert isinstance(error, JobFailed)
    assert words in str(error)
