"""Slurm's commands as the scheduler runs them, on stand-ins that a test writes."""

import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.errors import (
    JobState,
    OptionError,
    Refusal,
    SchedulerError,
    SubmitError,
)
from slurm_futures.schedulers import slurm
from slurm_futures.schedulers.base import BatchScript, Ending, JobId, Limits
from slurm_futures.schedulers.slurm import SlurmScheduler
from tests.unit.conftest import AddCommand

BATCH = BatchScript(
    script=Path("/run/0001/script.sh"),
    name="fit",
    directory=Path("/run/0001"),
    log="/run/logs/%A_%a",
    arguments=("1",),
)
_RECORD = 'printf "%s\\n" "$@" >{path}; env >{path}.env; '


class Commands:
    """Stand-ins for Slurm's commands, which write down how they were called."""

    def __init__(self, add: AddCommand, directory: Path) -> None:
        self._add = add
        self._directory = directory
        self.add("sbatch", "echo 123")

    def add(self, name: str, lines: str) -> None:
        """Let a command do this."""
        path = self._directory / f"{name}.words"
        self._add(name, _RECORD.format(path=path) + lines)

    def words(self, name: str) -> list[str]:
        """Return the arguments of the last call of a command."""
        return (self._directory / f"{name}.words").read_text().splitlines()

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of the last call of a command."""
        lines = (self._directory / f"{name}.words.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def was_called(self, name: str) -> bool:
        """Whether a command was run at all."""
        return (self._directory / f"{name}.words").exists()


@pytest.fixture
def commands(
    add_command: AddCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Commands:
    """Give a PATH with an sbatch that accepts everything, and no known cluster."""
    monkeypatch.setattr(slurm, "_clusters", {})
    monkeypatch.setattr(slurm, "_usual_complaints", set())
    return Commands(add_command, tmp_path)


def refuse(commands: Commands, stderr: str, exit_code: int = 1) -> SubmitError:
    """Return the error for an sbatch that says this and fails."""
    commands.add("sbatch", f"echo {stderr!r} >&2; exit {exit_code}")
    with pytest.raises(SubmitError) as caught:
        SlurmScheduler().submit(BATCH)
    return caught.value


def test_no_sbatch_is_an_error_with_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A sweep never runs silently on a login node."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(OptionError, match=r'SlurmExecutor\(scheduler="local"\)'):
        SlurmScheduler()


@pytest.mark.parametrize("interval", [0, -1, math.nan, "5"])
def test_interval_that_is_no_time_is_refused(commands: Commands, interval: Any) -> None:
    """With 0 squeue would run all the time."""
    with pytest.raises(OptionError, match="Write it like poll_interval=30"):
        SlurmScheduler(poll_interval=interval)


def test_command_line_of_a_plain_job(commands: Commands) -> None:
    """Everything stands there: it has priority over environment and directives."""
    job_id = SlurmScheduler().submit(BATCH)

    assert job_id == JobId(123)
    assert commands.words("sbatch") == [
        "--parsable",
        "--job-name=fit",
        "--chdir=/run/0001",
        "--output=/run/logs/%A_%a",
        "--open-mode=append",
        "--no-requeue",
        "/run/0001/script.sh",
        "1",
    ]


def test_options_of_the_user_become_long_options(commands: Commands) -> None:
    """With dashes; True stands for an option without a value."""
    options = {"cpus_per_task": 2, "exclusive": True, "requeue": True}
    batch = BatchScript(
        BATCH.script,
        "fit",
        BATCH.directory,
        BATCH.log,
        array_size=100,
        throttle=4,
        options=options,
    )

    SlurmScheduler().submit(batch)

    words = commands.words("sbatch")
    assert {"--array=0-99%4", "--cpus-per-task=2", "--exclusive", "--requeue"} <= {
        *words
    }
    assert "--no-requeue" not in words


def test_array_without_throttle(commands: Commands) -> None:
    """As many jobs as Slurm starts."""
    batch = BatchScript(BATCH.script, "fit", BATCH.directory, "/log", array_size=3)

    SlurmScheduler().submit(batch)

    assert "--array=0-2" in commands.words("sbatch")


DISTURBING = {
    "SLURM_JOB_ID": "1",
    "SLURM_ARRAY_TASK_ID": "7",
    "SLURM_CPU_BIND": "mask_cpu:0x1",
    "SLURM_CLUSTERS": "foo",
    "SBATCH_WAIT": "1",
    "SBATCH_ARRAY_INX": "1-3",
    "SBATCH_EXPORT": "NONE",
    "SQUEUE_PARTITION": "debug",
    "SCANCEL_STATE": "RUNNING",
    "PMIX_RANK": "0",
}


@pytest.fixture
def disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put into the environment what a login or an outer job may leave there."""
    for name, value in DISTURBING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SBATCH_ACCOUNT", "physics")
    monkeypatch.setenv("SLURM_CONF", "/etc/other.conf")
    monkeypatch.setenv("SLURM_JWT", "token")


@pytest.mark.usefixtures("disturbed")
def test_environment_of_sbatch_is_scrubbed(commands: Commands) -> None:
    """But for the defaults that a site or a user sets, and the configuration."""
    SlurmScheduler().submit(BATCH)

    environment = commands.environment("sbatch")
    assert not DISTURBING.keys() & environment.keys()
    assert environment["SBATCH_ACCOUNT"] == "physics"
    assert environment["SLURM_CONF"] == "/etc/other.conf"
    assert environment["SLURM_JWT"] == "token"
    assert "SLURM_BITSTR_LEN" not in environment


@pytest.mark.usefixtures("disturbed")
def test_environment_of_squeue_is_scrubbed(commands: Commands) -> None:
    """What is set hides jobs; full lists of indices are asked for."""
    commands.add("squeue", "")

    SlurmScheduler().query()

    environment = commands.environment("squeue")
    assert not DISTURBING.keys() & environment.keys()
    assert environment["SLURM_BITSTR_LEN"] == "0"
    assert environment["LC_ALL"] == "C"


@pytest.mark.parametrize(
    ("stderr", "refusal", "advice"),
    [
        ("Invalid partition name specified", Refusal.PERMANENT, "partition="),
        ("Invalid account or account/partition", Refusal.PERMANENT, "Choose one"),
        ("Invalid qos specification", Refusal.PERMANENT, "qos="),
        ("Requested time limit is invalid", Refusal.PERMANENT, "time="),
        ("sbatch: unrecognized option", Refusal.PERMANENT, "leave it"),
        ("Rate limit exceeded", Refusal.TRANSIENT, "submit again"),
        ("Socket timed out", Refusal.AMBIGUOUS, "submit again"),
    ],
)
def test_refusal_has_its_kind_and_advice(
    commands: Commands, stderr: str, refusal: Refusal, advice: str
) -> None:
    """And Slurm's own words."""
    error = refuse(commands, stderr)

    assert error.refusal is refusal
    assert error.exit_code == 1
    assert stderr in str(error)
    assert advice in str(error)


def test_silent_refusal_has_a_message_too(commands: Commands) -> None:
    """Nothing is a thing that can be said."""
    error = refuse(commands, "", exit_code=7)

    assert "(exit code 7)" in str(error)
    assert "It said: nothing" in str(error)


def test_sbatch_that_is_killed_may_have_made_its_job(commands: Commands) -> None:
    """By a signal."""
    commands.add("sbatch", "kill -9 $$")

    with pytest.raises(SubmitError) as caught:
        SlurmScheduler().submit(BATCH)

    assert caught.value.refusal is Refusal.AMBIGUOUS


def test_sbatch_that_takes_too_long_may_have_made_its_job(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed then."""
    monkeypatch.setattr(slurm, "_LONG_TIMEOUT", 0.1)
    commands.add("sbatch", "exec sleep 60")

    with pytest.raises(SubmitError, match=r"no answer within 0\.1 s") as caught:
        SlurmScheduler().submit(BATCH)

    assert caught.value.refusal is Refusal.AMBIGUOUS
    assert caught.value.exit_code is None


def test_sbatch_that_prints_no_id_may_have_made_its_job(commands: Commands) -> None:
    """A wrapper of the site may have eaten it."""
    commands.add("sbatch", "echo Have a nice day")

    with pytest.raises(SubmitError, match="Have a nice day") as caught:
        SlurmScheduler().submit(BATCH)

    assert caught.value.refusal is Refusal.AMBIGUOUS


def test_banner_and_warnings_do_not_hide_the_id(commands: Commands) -> None:
    """Digits in the banner are no id, stderr is no error."""
    commands.add(
        "sbatch", "echo 'Welcome to Stampede3'; echo 'warning: 5' >&2; echo 991"
    )

    assert SlurmScheduler().submit(BATCH) == JobId(991)


def test_query_asks_for_all_jobs_of_the_user(commands: Commands) -> None:
    """Also in hidden partitions and all states, without --array."""
    commands.add("squeue", "echo '7|0-9|PD|Priority|/run/0001'")
    before = time.monotonic()

    snapshot = SlurmScheduler().query()

    assert before <= snapshot.started_at <= time.monotonic()
    assert list(snapshot.jobs) == [JobId(7)]
    words = commands.words("squeue")
    assert words[:4] == ["-a", "-h", "-t", "all"]
    assert words[-1].startswith("--user=")
    assert "--array" not in words


def test_an_empty_list_with_an_error_is_no_news(commands: Commands) -> None:
    """Slurm's commands may fail with exit code 0."""
    commands.add("squeue", "echo 'squeue: error: Invalid user: ada' >&2")

    with pytest.raises(SchedulerError, match="Invalid user: ada"):
        SlurmScheduler().query()


def test_what_slurm_always_complains_about_is_no_failure(commands: Commands) -> None:
    """As a line of slurm.conf, with which each command begins."""
    complaint = "error: Ignoring ControlMachine since SlurmctldHost is set."
    commands.add("sbatch", f"echo 'sbatch: {complaint}' >&2; echo 7")
    commands.add("squeue", f"echo 'squeue: {complaint}' >&2")
    scheduler = SlurmScheduler()
    with pytest.raises(SchedulerError):  # nothing is known of it yet
        scheduler.query()
    scheduler.submit(BATCH)

    assert scheduler.query().jobs == {}
    commands.add(
        "squeue",
        f"echo 'squeue: {complaint}' >&2; echo 'squeue: error: More' >&2;"
        "echo '7|0|R|None|/run/0001'",
    )
    assert list(scheduler.query().jobs) == [JobId(7)]


def test_user_without_a_name_sees_all_jobs(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For `--user` with a number squeue prints nothing, and calls it success."""

    def fail(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", fail)
    commands.add("squeue", "")

    SlurmScheduler().query()

    assert not any("user" in word for word in commands.words("squeue"))


@pytest.mark.parametrize(
    "lines",
    [
        "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
        "echo 'slurm_load_jobs error: Invalid user' >&2",
    ],
    ids=["exit code", "stderr"],
)
def test_answer_with_an_error_is_no_snapshot(commands: Commands, lines: str) -> None:
    """Empty output is no evidence that jobs are gone."""
    commands.add("squeue", lines)

    with pytest.raises(SchedulerError, match="squeue failed") as caught:
        SlurmScheduler().query()

    assert caught.value.command[0] == "squeue"
    assert "slurm_load_jobs error" in caught.value.stderr


def test_command_that_is_not_there_is_a_failure(commands: Commands) -> None:
    """With the words of the system."""
    with pytest.raises(SchedulerError, match="No such file") as caught:
        SlurmScheduler().query()

    assert caught.value.exit_code == 127


def test_clusters_are_remembered(commands: Commands) -> None:
    """The queue is asked on each cluster where there are jobs."""
    scheduler = SlurmScheduler()
    commands.add("sbatch", "echo '5;alpha'")
    commands.add("squeue", "echo 'CLUSTER: alpha'; echo '5|N/A|R|None|/w'")

    job_id = scheduler.submit(BATCH)
    snapshot = scheduler.query()

    assert job_id == JobId(5, None, "alpha")
    assert list(snapshot.jobs) == [job_id]
    assert commands.words("squeue")[-3:-1] == ["-M", "alpha"]


def test_cluster_of_an_sbatch_that_failed_is_asked_under_either_name(
    commands: Commands,
) -> None:
    """There is --cluster as well as --clusters; the job may be there."""
    scheduler = SlurmScheduler()
    commands.add("sbatch", "echo Have a nice day")
    commands.add("squeue", "echo 'CLUSTER: c2'")
    with pytest.raises(SubmitError):
        scheduler.submit(replace(BATCH, options={"cluster": "c2"}))

    scheduler.query()

    assert commands.words("squeue")[-3:-1] == ["-M", "c2"]


def test_cancel_names_many_tasks_in_one_request(commands: Commands) -> None:
    """In brackets."""
    commands.add("scancel", "")

    SlurmScheduler().cancel([JobId(9), *(JobId(5, index) for index in range(100))])

    assert commands.words("scancel") == ["9", "5_[0-99]"]


def test_cancel_goes_to_the_cluster_of_the_job(commands: Commands) -> None:
    """One scancel for each."""
    commands.add("scancel", "")

    SlurmScheduler().cancel([JobId(5, 1, "alpha")])

    assert commands.words("scancel") == ["-M", "alpha", "5_[1]"]


def test_throttle_is_changed_by_scontrol(commands: Commands) -> None:
    """From now on."""
    commands.add("scontrol", "")

    SlurmScheduler().throttle(JobId(5), 7)

    assert commands.words("scontrol") == ["update", "JobId=5", "ArrayTaskThrottle=7"]


def test_limits_are_asked_once(commands: Commands) -> None:
    """They do not change while slurmctld runs."""
    commands.add("scontrol", "echo 'MaxArraySize = 42'")
    scheduler = SlurmScheduler()
    first = scheduler.limits()
    commands.add("scontrol", "exit 1")

    assert first == scheduler.limits() == Limits(42)


def test_controller_explains_what_it_remembers(commands: Commands) -> None:
    """Then the accounting is not asked; other tasks of the array are left out."""
    records = "\\n".join(
        f"JobId={9 + index} ArrayJobId=9 ArrayTaskId={index} JobState=TIMEOUT "
        "ExitCode=0:15 BatchHost=c1"
        for index in range(3)
    )
    commands.add("scontrol", f"printf '{records}\\n'")
    commands.add("sacct", "exit 1")

    endings = SlurmScheduler().explain([JobId(9, 1)])

    assert endings == {JobId(9, 1): Ending(JobState.TIMEOUT, 0, 15, "c1")}
    assert commands.words("scontrol") == ["-o", "show", "job", "9"]
    assert not commands.was_called("sacct")


def test_accounting_explains_what_the_controller_has_forgotten(
    commands: Commands,
) -> None:
    """One sacct for all jobs."""
    commands.add("scontrol", "echo 'Invalid job id specified' >&2; exit 1")
    commands.add("sacct", "printf '9_1|NODE_FAIL|0:0|c1\\n9_2|FAILED|1:0|c2\\n'")

    endings = SlurmScheduler().explain([JobId(9, 1), JobId(8)])

    assert endings == {JobId(9, 1): Ending(JobState.NODE_FAIL, 0, None, "c1")}
    assert commands.words("sacct")[-2:] == ["-j", "8,9"]


def test_site_without_accounting_is_not_asked_again(commands: Commands) -> None:
    """Sacct says that it is disabled."""
    commands.add("scontrol", "exit 1")
    commands.add("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    scheduler = SlurmScheduler()
    scheduler.explain([JobId(9)])
    commands.add("sacct", "echo '9|FAILED|1:0|c1'")

    assert scheduler.explain([JobId(9)]) == {}


def test_accounting_that_is_down_is_asked_again(commands: Commands) -> None:
    """It may be back."""
    commands.add("scontrol", "exit 1")
    commands.add("sacct", "echo 'Connection refused' >&2; exit 1")
    scheduler = SlurmScheduler()
    scheduler.explain([JobId(9)])
    commands.add("sacct", "echo '9|FAILED|1:0|c1'")

    assert list(scheduler.explain([JobId(9)])) == [JobId(9)]


def test_identity_is_that_of_the_cluster_and_user(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two executors share the queue, unless SLURM_CONF differs."""
    monkeypatch.setenv("SLURM_CONF", "/etc/a.conf")
    first, second = SlurmScheduler(), SlurmScheduler(poll_interval=9)
    monkeypatch.setenv("SLURM_CONF", "/etc/b.conf")
    third = SlurmScheduler()

    assert first.identity == second.identity != third.identity
    assert second.poll_interval == 9


def test_forked_child_can_submit(commands: Commands) -> None:
    """A lock that was held in the parent does not hold it up."""
    scheduler = SlurmScheduler()
    with slurm._shared_lock:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if scheduler.submit(BATCH) == JobId(123) else 1)
        _, status = os.waitpid(pid, 0)

    assert status == 0


def test_commands_have_a_session_of_their_own(commands: Commands) -> None:
    """Ctrl-C in the terminal is for the program, not for a running sbatch."""
    commands.add("sbatch", "ps -o sid= -p $$ | tr -d ' '")

    session = SlurmScheduler().submit(BATCH).number

    assert session != os.getsid(0)


def test_import_starts_no_command() -> None:
    """Also where there is no Slurm."""
    code = "import slurm_futures.schedulers.slurm"

    subprocess.run([sys.executable, "-c", code], env={"PATH": ""}, check=True)
