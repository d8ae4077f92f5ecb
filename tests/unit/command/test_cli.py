"""The command line: what it says, where, and its exit code."""

import os
import runpy
import stat
import sys
from pathlib import Path

import pytest

from slurm_futures import __version__
from slurm_futures.command import cli, demo

SMALL = ["--points", "2x2", "--seeds", "1", "--chunksize", "2"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_demo_draws_a_picture_and_says_where_its_files_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """End to end: the results on stdout, everything else on stderr."""
    exit_code = cli.main(["demo", "--local", "--mem", "1G", *SMALL])

    out, err = capsys.readouterr()
    assert exit_code == 0
    assert "   70% " in out
    directory = Path(out.rstrip().rpartition(" ")[2])
    assert '"mem": "1G"' in (directory / "0001" / "submission.json").read_text()
    assert err.splitlines()[-1].startswith("4/4 calls done")


def test_demo_runs_here_when_there_is_no_sbatch(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The demo chooses, and says so; the library would refuse."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert where_demo_runs(monkeypatch) == "local"
    assert capsys.readouterr().err.startswith(
        "Running on this machine, without Slurm. OptionError: The command sbatch"
    )


def test_demo_runs_here_when_slurm_is_installed_but_answers_nothing(
    commands: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As on a machine that has Slurm's packages and no cluster."""
    _add_command(commands, "squeue", "echo 'fatal: no configuration' >&2; exit 1")

    assert where_demo_runs(monkeypatch) == "local"
    assert "fatal: no configuration" in capsys.readouterr().err


def test_demo_uses_slurm_when_there_is_a_cluster(
    commands: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The default on a login node."""
    _add_command(commands, "squeue", "exit 0")

    assert where_demo_runs(monkeypatch) == "slurm"
    assert "--local" in capsys.readouterr().err


@pytest.mark.parametrize("wanted", ["slurm", "local"])
def test_a_wanted_scheduler_is_not_questioned(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    """A switch is an order."""
    assert where_demo_runs(monkeypatch, f"--{wanted}") == wanted


def where_demo_runs(monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """Return the scheduler that the demo would use."""
    used: list[str] = []
    monkeypatch.setattr(demo, "run", lambda scheduler, **_: used.append(scheduler))
    assert cli.main(["demo", *words]) == 0
    return used[0]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder in which sbatch and other commands are found first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    _add_command(folder, "sbatch", "exit 1")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def _add_command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_slurm_without_sbatch_is_an_error_with_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback: the message is for a user of the command line."""
    monkeypatch.setenv("PATH", str(tmp_path))

    exit_code = cli.main(["demo", "--slurm", *SMALL])

    assert exit_code == 1
    assert "OptionError: The command sbatch" in capsys.readouterr().err


def test_a_call_that_fails_is_an_error_in_one_line(
    capsys: pytest.CaptureFixture[str], commands: Path
) -> None:
    """The last line, after those of the progress; there is no picture."""
    _add_command(commands, "sbatch", "echo 'no partition for you' >&2; exit 1")
    _add_command(commands, "squeue", "exit 0")
    _add_command(commands, "scontrol", "exit 0")

    exit_code = cli.main(["demo", "--slurm", "--partition", "nowhere", *SMALL])

    out, err = capsys.readouterr()
    assert (exit_code, out) == (1, "")
    assert err.splitlines()[-1].startswith("SubmitError: sbatch refused the job")
    assert "no partition for you" in err.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["demo", "--points", "12"],
        ["demo", "--points", "0x8"],
        ["demo", "--seeds", "0"],
        ["demo", "--chunksize", "many"],
        ["demo", "--local", "--slurm"],
    ],
    ids=" ".join,
)
def test_bad_words_end_with_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Argparse's own way: exit code 2."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)

    assert "usage: slurm-futures" in capsys.readouterr().err


def test_interrupted_demo_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells report Ctrl-C; no traceback."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupt)

    assert cli.main(["demo", "--local"]) == 130


def test_module_is_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m slurm_futures` is for machines where no script is on the PATH."""
    monkeypatch.setattr(sys, "argv", ["slurm_futures", "--version"])

    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("slurm_futures", run_name="__main__")

    assert capsys.readouterr().out.strip() == f"slurm-futures {__version__}"
