"""The stand-in commands do and print what those of Slurm 22.05 do and print.

Each test runs on both, so that the stand-in cannot drift away.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.slurm.slurm_cluster import SlurmCluster
from tests.stand_in import Fault, StandInSlurm
from tests.waiting import assert_soon

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMAT = "%F|%K|%t|%r|%Z"
_TIMEOUT = 60  #: seconds
#: An array of this shape leaves no CPU free, here or in the cluster of the tests.
_EVERYTHING = ("--array=0-3", "--cpus-per-task=8")


class Printed(NamedTuple):
    """What a command left."""

    stdout: str
    stderr: str
    exit_code: int


class Shell:
    """Runs commands in a directory with scripts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.write("wait.sh", "#!/bin/sh\nwhile [ ! -e gate ]; do sleep 0.02; done\n")
        self.write("true.sh", "#!/bin/sh\nexit $1\n")

    def write(self, name: str, text: str) -> None:
        """Write a script."""
        (self.directory / name).write_text(text)

    def run(self, *words: str, **environment: str) -> Printed:
        """Run a command."""
        answer = subprocess.run(
            words,
            cwd=self.directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Printed(answer.stdout, answer.stderr, answer.returncode)

    def submit(self, *words: str) -> str:
        """Submit a script; the id of the job."""
        return self.run("sbatch", "--parsable", *words).stdout.strip()

    def queue(self, job: str, **environment: str) -> list[str]:
        """The lines of squeue for a job, without its id."""
        command = ["squeue", "-a", "-h", "-t", "all", "-o", _FORMAT]
        lines = self.run(*command, **environment).stdout.splitlines()
        found = [line.split("|", 1) for line in lines]
        return sorted(rest for number, rest in found if number == job)

    def wait_for(self, job: str, lines: list[str]) -> None:
        """Wait until squeue prints these lines for a job."""
        assert_soon(
            lambda: self.queue(job) == lines,
            _TIMEOUT,
            lambda: f"{self.queue(job)}, not {lines}",
        )

    def block_all_cpus(self) -> None:
        """Let what is submitted from now on wait."""
        blocker = self.submit(*_EVERYTHING, "wait.sh")
        assert_soon(lambda: "|R|" in str(self.queue(blocker)), _TIMEOUT)


@pytest.fixture(params=["played", pytest.param("real", marks=pytest.mark.cluster)])
def shell(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    """Give a place where Slurm's commands work; nothing runs there in the end."""
    if request.param == "real":
        cluster: SlurmCluster = request.getfixturevalue("slurm")
        yield Shell(tmp_path)
        (tmp_path / "gate").touch()
        cluster.run("scancel", "--user", cluster.user)
        return
    with StandInSlurm() as stand_in:
        for name, value in stand_in.environment.items():
            monkeypatch.setenv(name, value)
        yield Shell(tmp_path)
        (tmp_path / "gate").touch()


def test_sbatch_prints_the_id(shell: Shell) -> None:
    """Nothing else, with --parsable."""
    printed = shell.run("sbatch", "--parsable", "--array=0-2%2", "true.sh")

    assert re.fullmatch(r"\d+\n", printed.stdout)
    assert (printed.stderr, printed.exit_code) == ("", 0)


@pytest.mark.parametrize(
    ("words", "stderr", "exit_code"),
    [
        (["--time=x", "true.sh"], "sbatch: error: Invalid --time specification\n", 255),
        (
            ["--cpus-per-task=x", "true.sh"],
            'sbatch: error: Invalid numeric value "x" for --cpus-per-task.\n',
            1,
        ),
        (["gone.sh"], "sbatch: error: Unable to open file gone.sh\n", 1),
        (["empty.sh"], "sbatch: error: Batch script is empty!\n", 1),
        (
            ["text.sh"],
            "sbatch: error: This does not look like a batch script.  The first\n"
            "sbatch: error: line must start with #! followed by the path to an "
            "interpreter.\n"
            "sbatch: error: For instance: #!/bin/sh\n",
            1,
        ),
        (
            ["dos.sh"],
            r"sbatch: error: Batch script contains DOS line breaks (\r\n)"
            "\n"
            r"sbatch: error: instead of expected UNIX line breaks (\n)."
            "\n",
            1,
        ),
        (
            ["--partition=gpu", "true.sh"],
            "sbatch: error: invalid partition specified: gpu\n"
            "sbatch: error: Batch job submission failed: "
            "Invalid partition name specified\n",
            1,
        ),
        (
            ["--array=0-200000", "true.sh"],
            "sbatch: error: Batch job submission failed: "
            "Invalid job array specification\n",
            1,
        ),
        (
            ["--colour=blue", "true.sh"],
            "sbatch: unrecognized option '--colour=blue'\n"
            'Try "sbatch --help" for more information\n',
            255,
        ),
    ],
)
def test_sbatch_refuses(
    shell: Shell, words: list[str], stderr: str, exit_code: int
) -> None:
    """Word by word what Slurm says."""
    shell.write("empty.sh", "")
    shell.write("text.sh", "echo hello\n")
    shell.write("dos.sh", "#!/bin/sh\r\ntrue\r\n")
    printed = shell.run("sbatch", "--parsable", *words)

    assert printed == ("", stderr, exit_code)


def test_squeue_shows_a_job(shell: Shell) -> None:
    """A job that is no array has no indices."""
    job = shell.submit("true.sh", "3")

    shell.wait_for(job, [f"N/A|F|NonZeroExitCode|{shell.directory}"])


def test_squeue_shows_an_array(shell: Shell) -> None:
    """Tasks that wait share a line, with the throttle."""
    array = shell.submit("--array=0-5%2", "wait.sh")
    here = shell.directory
    running = [f"{index}|R|None|{here}" for index in range(3)]
    shell.wait_for(array, [*running[:2], f"2-5%2|PD|JobArrayTaskLimit|{here}"])
    shell.run("scontrol", "update", f"JobId={array}", "ArrayTaskThrottle=3")
    shell.run("scancel", f"{array}_4")

    shell.wait_for(array, [*running, f"3,5%3|PD|JobArrayTaskLimit|{here}"])


def test_squeue_cuts_long_lists_of_indices(shell: Shell) -> None:
    """Unless it is told not to."""
    array = shell.submit("--array=0-99%1", "wait.sh")
    assert_soon(lambda: "0|R|" in str(shell.queue(array)), _TIMEOUT)
    shell.run("scancel", f"{array}_[{','.join(map(str, range(3, 90, 3)))}]")
    short = shell.queue(array)[1].split("|")[0]
    long = shell.queue(array, SLURM_BITSTR_LEN="0")[1].split("|")[0]

    pairs = [f"{first}-{first + 1}" for first in range(1, 87, 3)]
    assert long == f"{','.join(pairs)},88-99%1"
    assert short == f"{long[:60]}...%1"


def test_squeue_shows_evenly_spaced_indices(shell: Shell) -> None:
    """With their stride."""
    shell.block_all_cpus()
    array = shell.submit("--array=0-20", "true.sh")
    shell.run("scancel", f"{array}_[{','.join(map(str, range(1, 20, 2)))}]")

    assert [line.split("|")[0] for line in shell.queue(array)] == ["0-20:2"]


@pytest.mark.parametrize("user", ["no-such-user", "54321"])
def test_squeue_with_an_unknown_user(shell: Shell, user: str) -> None:
    """Not a failure, as Slurm sees it."""
    printed = shell.run("squeue", "-h", f"--user={user}", "-o", _FORMAT)

    assert printed == ("", f"squeue: error: Invalid user: {user}\n\n", 0)


def test_squeue_of_another_user(shell: Shell) -> None:
    """Who has no jobs."""
    printed = shell.run("squeue", "-h", "--user=nobody", "-o", _FORMAT)

    assert printed == ("", "", 0)


def test_scancel_of_a_pending_array(shell: Shell) -> None:
    """The indices stay in the record."""
    shell.block_all_cpus()
    array = shell.submit("--array=0-9%3", "true.sh")
    printed = shell.run("scancel", array)

    (line,) = shell.queue(array)
    assert printed == ("", "", 0)
    assert line.startswith("0-9%3|CA|")


def test_scancel_of_pending_tasks(shell: Shell) -> None:
    """The last record of the array has no indices."""
    shell.block_all_cpus()
    array = shell.submit("--array=0-9%3", "true.sh")
    shell.run("scancel", f"{array}_[0-3,5]", f"{array}_4")
    (line,) = shell.queue(array)
    assert line.startswith("6-9%3|PD|")
    shell.run("scancel", f"{array}_[6-9]")

    (line,) = shell.queue(array)
    assert line.startswith("N/A|CA|")


def test_scancel_of_what_is_not_there(shell: Shell) -> None:
    """Silence, also for an index that the array never had."""
    job = shell.submit("true.sh")

    assert shell.run("scancel", "4000000", "4000001_3", f"{job}_7") == ("", "", 0)


@pytest.mark.parametrize(
    ("words", "stderr"),
    [
        ([], "scancel: error: No job identification provided\n"),
        (["xyz"], "scancel: error: Invalid job id xyz\n"),
    ],
)
def test_scancel_refuses(shell: Shell, words: list[str], stderr: str) -> None:
    """What is no id."""
    assert shell.run("scancel", *words) == ("", stderr, 1)


def test_scontrol_shows_the_configuration(shell: Shell) -> None:
    """As far as it matters."""
    settings = shell.run("scontrol", "show", "config").stdout

    assert re.search(r"^MaxArraySize            = \d+$", settings, re.MULTILINE)
    assert re.search(r"^MinJobAge               = 300 sec$", settings, re.MULTILINE)


def test_scontrol_shows_jobs(shell: Shell) -> None:
    """One line for each task that has started."""
    array = shell.submit("--array=0-1", "true.sh", "3")
    failed = [f"{index}|F|NonZeroExitCode|{shell.directory}" for index in range(2)]
    shell.wait_for(array, failed)
    lines = shell.run("scontrol", "-o", "show", "job", array).stdout.splitlines()
    task = shell.run("scontrol", "-o", "show", "job", f"{array}_1").stdout
    words = set(task.split())

    assert len(lines) == 2
    assert {f"ArrayJobId={array}", "ArrayTaskId=1", "ExitCode=3:0"} <= words
    assert {"JobState=FAILED", "Reason=NonZeroExitCode"} <= words
    assert re.search(r" BatchHost=\w+ ", task)


def test_scontrol_of_what_is_not_there(shell: Shell) -> None:
    """It says so."""
    array = shell.submit("--array=0-1", "true.sh")
    unknown = shell.run("scontrol", "-o", "show", "job", "4000000")
    index = shell.run("scontrol", "-o", "show", "job", f"{array}_7")
    update = shell.run("scontrol", "update", "JobId=4000000", "ArrayTaskThrottle=1")

    expected = "slurm_load_jobs error: Invalid job id specified\n"
    assert unknown == ("", expected, 1)
    assert index == (f"Job {array}_7 not found\n", "", 1)
    assert update == ("", "Invalid job id specified for job 4000000\n", 1)


def test_sacct_without_accounting(shell: Shell) -> None:
    """It is asked in vain."""
    printed = shell.run("sacct", "-X", "-n", "-P", "-j", "1", "-o", "JobID,State")

    assert printed == ("", "Slurm accounting storage is disabled\n", 1)


# Faults


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInSlurm]:
    """Put the stand-in commands on the PATH."""
    with StandInSlurm() as stand_in:
        for name, value in stand_in.environment.items():
            monkeypatch.setenv(name, value)
        yield stand_in


def test_a_command_fails_so_many_times(stand_in: StandInSlurm, tmp_path: Path) -> None:
    """Then all is well again; other commands do not suffer."""
    shell = Shell(tmp_path)
    stand_in.inject(Fault("squeue", times=2, exit_code=1, stderr="Socket timed out\n"))
    printed = [shell.run("squeue", "-h", "-o", _FORMAT) for _ in range(3)]

    assert printed == [("", "Socket timed out\n", 1)] * 2 + [("", "", 0)]


def test_faults_of_a_command_come_one_by_one(
    stand_in: StandInSlurm, tmp_path: Path
) -> None:
    """In the order in which they were injected."""
    shell = Shell(tmp_path)
    for exit_code in 7, 8:
        stand_in.inject(Fault("scancel", exit_code=exit_code))
    codes = [shell.run("scancel", "1").exit_code for _ in range(3)]

    assert codes == [7, 8, 0]


def test_a_submission_that_seems_to_fail(
    stand_in: StandInSlurm, tmp_path: Path
) -> None:
    """The job is there all the same."""
    shell = Shell(tmp_path)
    stand_in.inject(Fault("sbatch", executed=True, exit_code=1, stderr="time-out\n"))
    printed = shell.run("sbatch", "--parsable", "wait.sh")
    (tmp_path / "gate").touch()

    assert printed == ("", "time-out\n", 1)
    assert_soon(lambda: "CD" in str(shell.queue("1")), _TIMEOUT)


def test_a_banner(stand_in: StandInSlurm, tmp_path: Path) -> None:
    """The output of the command comes after it."""
    shell = Shell(tmp_path)
    banner = "Welcome to Stampede 3\n"
    stand_in.inject(Fault("sbatch", executed=True, stdout=banner))

    assert shell.run("sbatch", "true.sh") == (f"{banner}1\n", "", 0)


def test_a_command_that_hangs(stand_in: StandInSlurm, tmp_path: Path) -> None:
    """It is killed; when Slurm is back, what it asked for happens."""
    shell = Shell(tmp_path)
    fault = stand_in.inject(Fault("sbatch", delay=math.inf, executed=True))
    with subprocess.Popen(["sbatch", "true.sh"], cwd=tmp_path) as sbatch:
        assert_soon(lambda: stand_in.calls_of("sbatch"), _TIMEOUT)
        sbatch.kill()
    assert shell.queue("1") == []
    fault.released.set()

    assert_soon(lambda: "CD" in str(shell.queue("1")), _TIMEOUT)


def test_calls_are_counted(stand_in: StandInSlurm, tmp_path: Path) -> None:
    """So that tests can say how often Slurm is asked."""
    shell = Shell(tmp_path)
    shell.run("scancel", "1", "2_[3-4]")
    shell.run("squeue", "-h", "-o", "")

    assert stand_in.calls_of("scancel") == [["1", "2_[3-4]"]]
    assert len(stand_in.calls) == 2
