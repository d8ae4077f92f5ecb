"""Nobody else reads or writes what a run consists of, and no name becomes a command."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import JobFailed, OptionError, OutcomeNotReadable, SlurmFuture
from slurm_futures.node import formats
from tests.cluster.conftest import MakeExecutor, Noticed
from tests.contract.calls import identity, outcomes_file_of_this_job
from tests.contract.gate import Gate
from tests.slurm import SlurmCluster
from tests.waiting import assert_soon

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds

_NAMES = [
    "$(touch {file})",
    "`touch {file}`",
    "; touch {file} #",
    "\n touch {file} \n",
    "' ; touch {file} ; '",
    '" ; touch {file} ; "',
    "-x --wrap='touch {file}'",
    "{{{{ ''.join }}}} {{% raw %}}",
    "\r\ntouch {file}",
    "a | touch {file} & touch {file} > {file}",
]
_IDS = [
    "substitution", "backticks", "semicolon", "line", "single", "double", "option",
    "template", "carriage-return", "pipe",
]  # fmt: skip

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it uses chown")


@pytest.mark.usefixtures("slurm")
def test_only_the_owner_can_look_into_a_run(
    make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """Mode 0700 at the top, whatever the umask; nothing secret in the environment."""
    before = os.umask(0)
    try:
        executor = make_executor(keep="always")
        assert list(executor.map(identity, "ab", timeout=PATIENCE)) == ["a", "b"]
        executor.shutdown()
    finally:
        os.umask(before)

    runs = list((tmp_path / "runs").iterdir())
    assert [run.stat().st_mode & 0o777 for run in runs] == [0o700]


@pytest.mark.usefixtures("slurm")
def test_the_files_of_a_run_hold_no_environment(
    make_executor: MakeExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that the program has in its environment is not written down."""
    monkeypatch.setenv("MY_TOKEN", "hunter2-is-secret")
    executor = make_executor(keep="always")
    assert executor.submit(identity, 1).result(PATIENCE) == 1
    executor.shutdown()

    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


@needs_root
@pytest.mark.usefixtures("slurm")
def test_outcomes_of_somebody_else_are_refused(
    make_executor: MakeExecutor, gate: Gate, noticed: Noticed, tmp_path: Path
) -> None:
    """They are not unpickled, which could run anything; the call fails and says so."""
    future = make_executor().submit(replace_own_outcomes, gate, tmp_path / "pwned")
    gate.await_arrivals("a")
    gate.open()

    error = noticed(future, OutcomeNotReadable, within=20)

    assert "belongs to user 65534; only your own files are unpickled" in str(error)
    assert not (tmp_path / "pwned").exists()


STRANGER = """
import pathlib
pathlib.Path({proof!r}).touch()
"""


def put_another_in_its_place(run: Path, proof: Path, *, keeps: str = "") -> None:
    """Do what another user can who may rename the run, with a copy of his own.

    Args:
        run: is renamed.
        proof: a file that his programs create.
        keeps: what the copy takes from the run as it is, by a link.
    """
    own = run.with_name(f"{run.name}.own")
    moved = run.with_name(f"{run.name}.moved")
    shutil.copytree(run, own, symlinks=True)
    (own / "start.py").write_text(STRANGER.format(proof=str(proof)))
    for path in [own, *own.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o777)
    if keeps:
        shutil.rmtree(own / keeps)
        (own / keeps).symlink_to(moved / keeps)
    run.rename(moved)
    own.rename(run)


@needs_root
@pytest.mark.parametrize("keeps", ["", "0001"], ids=["copy", "link"])
@pytest.mark.parametrize("flags", [[], ["-s"]], ids=["from within", "by its path"])
@pytest.mark.parametrize("tasks", [1, None], ids=["jobs", "pool"])
def test_a_run_that_another_user_has_replaced_is_not_used(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    tmp_path: Path,
    keeps: str,
    flags: list[str],
    tasks: int | None,
) -> None:
    """Between sbatch and the start of the job; by a copy, or one with the real jobs."""
    executor = make_executor(
        max_workers=1,
        hold=True,
        python=[sys.executable, *flags],
        max_tasks_per_child=tasks,
    )
    future = executor.submit(identity, 1)

    def jobs() -> list[str]:
        return slurm.run("squeue", "-h", "-o", "%F").split()

    assert_soon(jobs, PATIENCE)
    job = jobs()[0]
    proof = tmp_path / "pwned"

    put_another_in_its_place(executor.directory, proof, keeps=keeps)
    slurm.run("scontrol", "release", job)

    assert_soon(lambda: job not in jobs(), PATIENCE)
    executor.terminate_workers()
    assert future.exception(PATIENCE) is not None or future.result() == 1
    assert not proof.exists()


@pytest.mark.parametrize("when", ["between jobs", "while a job waits"])
@pytest.mark.parametrize("name", ["start.py", "node.bundle", "loader.py"])
def test_what_others_wrote_into_an_open_run_is_not_executed(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    tmp_path: Path,
    name: str,
    when: str,
) -> None:
    """The user has typed `chmod -R 777`; later calls have a run of their own."""
    proof = tmp_path / "pwned"
    executor = make_executor()
    assert executor.submit(identity, 1).result(PATIENCE) == 1
    waits = when == "while a job waits"
    if waits:
        future = executor.options(hold=True).submit(identity, 2)
        assert_soon(lambda: "PD" in slurm.run("squeue", "-h", "-o", "%t"), PATIENCE)

    for path in [executor.directory, *executor.directory.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o777)
    (executor.directory / "node.bundle").write_bytes(b"")  # else loader.py is not used
    (executor.directory / name).write_text(STRANGER.format(proof=str(proof)))

    if waits:
        slurm.run("scontrol", "release", str(future.job_id))
        error = future.exception(PATIENCE)
        assert name == "node.bundle" or isinstance(error, JobFailed)
    assert executor.submit(identity, 3).result(PATIENCE) == 3
    assert not proof.exists()


@pytest.mark.parametrize("tasks", [1, None], ids=["jobs", "pool"])
def test_a_directory_that_was_opened_meanwhile_gets_no_jobs(
    slurm: SlurmCluster, make_executor: MakeExecutor, tmp_path: Path, tasks: int | None
) -> None:
    """The calls fail with the command that closes it; then others run."""
    above = tmp_path / "above"
    executor = make_executor(
        max_workers=1, max_tasks_per_child=tasks, directory=above / "runs"
    )
    above.chmod(0o777)

    error = executor.submit(identity, 1).exception(PATIENCE)

    assert isinstance(error, OptionError)
    assert f"Type 'chmod go-w {above}'" in str(error)
    assert slurm.run("squeue", "-h") == ""
    above.chmod(0o755)
    assert executor.submit(identity, 2).result(PATIENCE) == 2


class Exploit:
    """What an attacker would write."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> Any:
        """Create a file at the other end."""
        return Path.touch, (self._file,)


def replace_own_outcomes(gate: Gate, file: Path) -> str:
    """Let the worker publish outcomes of another user."""
    outcomes_file = outcomes_file_of_this_job()
    publish = outcomes_file.publish

    def publish_foreign(outcomes: Any, **options: Any) -> bool:
        own = Path(outcomes._own)
        payload = pickle.dumps(Exploit(file))
        own.write_bytes(formats.pack_outcome(0, formats.VALUE, payload))
        os.chown(own, 65534, 65534)
        return bool(publish(outcomes, **options))

    outcomes_file.publish = publish_foreign
    return gate.hold("a")


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("name", _NAMES, ids=_IDS)
def test_names_are_never_commands(
    make_executor: MakeExecutor, tmp_path: Path, name: str
) -> None:
    """Not in the names of functions and jobs, nor in options, nor in the directory."""
    proof = tmp_path / "pwned"
    hostile = name.format(file=proof)

    def function(number: int) -> int:
        return number

    function.__name__ = function.__qualname__ = hostile
    executor = make_executor(job_name=hostile, comment=hostile)
    futures: list[SlurmFuture[int]] = [
        executor.submit(function, 1),
        executor.options(job_name=None).submit(function, 2),
        executor.options(export=f"A={hostile}".replace(",", "")).submit(function, 3),
        executor.options(constraint=hostile).submit(function, 4),
    ]
    results = [future.exception(PATIENCE) for future in futures[:2]]

    assert results == [None, None]
    assert_soon(futures[3].done, PATIENCE)
    executor.shutdown(cancel_futures=True)
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("name", _NAMES, ids=_IDS)
def test_directories_are_never_commands(
    make_executor: MakeExecutor, tmp_path: Path, name: str
) -> None:
    """They work, or are refused by the constructor."""
    part = name.format(file="pwned").replace("/", "_")
    if set("\n\r") & set(part):
        with pytest.raises(OptionError, match="holds the character"):
            make_executor(directory=tmp_path / part)
        return
    executor = make_executor(directory=tmp_path / part)

    assert list(executor.map(identity, "ab", timeout=PATIENCE)) == ["a", "b"]
    assert not list(tmp_path.rglob("pwned"))


def test_python_and_setup_are_words_and_lines(
    slurm: SlurmCluster, make_executor: MakeExecutor, tmp_path: Path, noticed: Noticed
) -> None:
    """`python` is quoted; `setup` is shell, as it says, and ends with its line."""
    proof = tmp_path / "pwned"
    executor = make_executor(python=f"/usr/bin/env; touch {proof}", grace=1)
    assert executor.submit(identity, 1).exception(PATIENCE) is not None

    executor = make_executor(setup=["export GREETING='a b'", "# a comment"])
    assert executor.submit(os.getenv, "GREETING").result(PATIENCE) == "a b"
    assert not proof.exists()
