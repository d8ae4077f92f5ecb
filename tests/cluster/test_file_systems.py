"""Files are late, broken, gone, or cannot be written: errors say so, nothing hangs."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import (
    JobFailed,
    JobLost,
    OptionError,
    Owner,
    RunInUse,
    SlurmExecutor,
    SlurmFuture,
    SubmitError,
)
from slurm_futures.errors import JobState
from slurm_futures.pool.pools import Pools
from slurm_futures.runs.lease import Lease
from slurm_futures.runs.owner import find_last, read_owner
from tests.cluster.conftest import MakeExecutor, Noticed
from tests.contract.calls import identity, outcomes_file_of_this_job
from tests.contract.gate import Gate
from tests.faults.sweep import COMPILER, MANY, Fault, run_calls
from tests.slurm import SlurmCluster
from tests.unit.runs.leases import QUICK, on_host
from tests.waiting import assert_soon, job_id_of

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds
_CACHE_TIME = 20  #: seconds for which the emulated NFS trusts its caches

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts")

MountTmpfs = Callable[[str], Path]


def fill_with(size: int) -> bytes:
    """Return a large value."""
    return b"x" * size


@pytest.fixture
def mount_tmpfs(tmp_path: Path) -> Iterator[MountTmpfs]:
    """Mount small file systems."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        path = tmp_path / f"tmpfs{len(mounted)}"
        path.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True
        )
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def nfs(tmp_path: Path) -> Iterator[Path]:
    """A view of `tmp_path / "shared"` that caches like NFS, names not found as well."""
    if os.geteuid() != 0 or shutil.which("bindfs") is None:
        pytest.skip("needs root and bindfs: apt-get install bindfs")
    if not Path("/dev/fuse").exists():
        pytest.skip("needs /dev/fuse")
    source, view = tmp_path / "shared", tmp_path / "view"
    source.mkdir()
    view.mkdir()
    options = ",".join(
        f"{kind}_timeout={_CACHE_TIME}" for kind in ("attr", "entry", "negative")
    )
    subprocess.run(["bindfs", "-o", options, source, view], check=True)
    yield view
    subprocess.run(["umount", "-l", view], check=True)


# Caches.


def test_negative_caches_do_not_delay_results(
    slurm: SlurmCluster, nfs: Path, make_executor: MakeExecutor, gate: Gate
) -> None:
    """The client caches names for 20 s, and sees results within a second or two.

    Client and nodes have the same path to different mounts on a real cluster. Here a
    job would write through the view of the client and so refresh its caches: its
    script is sent to the other side of the mount.
    """
    template = nfs.parent / "template.sh.j2"
    template.write_text(
        "{% extends base %}{% block index %}\n"
        f"_slurm_futures_submission="
        f"{nfs.parent}/shared${{_slurm_futures_submission#{nfs}}}\n"
        "{{ super() }}{% endblock %}"
    )
    executor = make_executor(directory=nfs / "runs", template=template, grace=30)
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    with pytest.raises(TimeoutError):
        future.result(2)  # the client looks, and its caches learn what is not there

    gate.open()

    assert future.result(60) == "a"
    results = executor.map(identity, range(20), timeout=10)
    assert list(results) == list(range(20))


def test_owner_of_a_run_is_seen_through_caches(
    nfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beats are news at once, and so is its end, or that it was taken over."""
    source = nfs.parent / "shared"
    far = Lease.take(source, here=on_host("far"))
    assert read_owner(nfs) == Owner("far", os.getpid())
    seen = find_last(nfs / "owner").beat
    for _ in range(3):
        far.beat()
        seen, before = find_last(nfs / "owner").beat, seen
        assert seen == before + 1
    monkeypatch.setattr("slurm_futures.runs.lease.sleep", lambda _: far.beat())
    with pytest.raises(RunInUse, match="owns it"):
        Lease.take(nfs)
    far.release()
    assert read_owner(nfs) is None

    here = Lease.take(nfs)
    here.check()
    Lease.take(source, QUICK, on_host("far"))

    with pytest.raises(RunInUse, match="on host far has taken it over"):
        here.check()


# Directories that cannot be listed.


def test_a_directory_that_can_never_be_listed_again(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """JobLost with the words of the system, once Slurm says that the job is over."""
    future = make_executor(grace=2).submit(gate.hold, "a")
    gate.await_arrivals("a")
    hide(finished_of(future))

    gate.open()
    error = noticed(future, JobLost, within=20)

    assert "its files cannot be read: " in str(error)
    assert "Not a directory" in str(error)


def test_a_directory_that_cannot_be_listed_for_a_while(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """The value arrives when it can be listed again."""
    future = make_executor(grace=1).submit(gate.hold, "a")
    gate.await_arrivals("a")
    finished = finished_of(future)
    hidden = hide(finished)
    with pytest.raises(TimeoutError):
        future.result(3)

    finished.unlink()
    hidden.rename(finished)
    gate.open()

    assert future.result(PATIENCE) == "a"


def test_the_directory_of_jobs_that_live_on_can_never_be_listed_again(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """The same for all calls; no jobs are submitted in vain, but for later calls."""
    executor = make_executor(grace=2, max_workers=1, max_tasks_per_child=None)
    running, waiting = put_into_queue(executor, gate, "ab")
    gate.await_arrivals("a")
    assert_soon(running.running)
    hide(finished_of_pool(executor))

    gate.open()
    for future in (running, waiting):
        error = noticed(future, JobLost, within=20)
        assert "cannot be read: [Errno 20] Not a directory" in str(error)

    runs = [each for each in executor.directory.iterdir() if each.name.isdigit()]
    assert len(runs) == 1
    assert executor.submit(identity, 6).result(PATIENCE) == 6


def directory_of(future: SlurmFuture[Any]) -> Path:
    """The directory of a job, which may begin before it is known here."""
    job_id_of(future)
    assert future.directory is not None
    return future.directory


def finished_of(future: SlurmFuture[Any]) -> Path:
    """The directory in which the jobs of a submission say that they are over."""
    return directory_of(future).parents[2] / "finished"


def put_into_queue(
    executor: SlurmExecutor, gate: Gate, names: str
) -> list[SlurmFuture[str]]:
    """Submit calls that wait at the gate, and see that they are in the queue."""
    futures = [executor.submit(gate.hold, name) for name in names]
    machine = executor._session._machine
    assert isinstance(machine, Pools)
    (pool,) = machine._pools.values()
    feeding = pool._feeder._thread
    assert_soon(lambda: not feeding.exists)
    return futures


def finished_of_pool(executor: SlurmExecutor) -> Path:
    """The directory in which jobs that live on leave outcomes."""
    (pool,) = executor.directory.glob("pool-*")
    return pool / "finished"


def hide(directory: Path) -> Path:
    """Put a file into the place of a directory; return where that is now."""
    hidden = directory.rename(directory.with_name("hidden"))
    directory.touch()
    return hidden


# Damaged outcomes.


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("truncated", "its result is not readable"),
        ("corrupt", "its result is not readable"),
        ("empty", "its result is not readable"),
        ("directory", "its result is not readable: [Errno 21]"),
    ],
)
def test_damaged_outcomes(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
    damage: str,
    words: str,
) -> None:
    """JobLost after the grace, with the name of the file; other calls are well."""
    executor = make_executor(grace=2)
    future = executor.submit(damage_own_outcomes, gate, damage)
    gate.await_arrivals("a")
    gate.open()

    error = noticed(future, JobLost, within=20)

    assert words in str(error)
    if damage != "directory":
        assert str(finished_of(future) / "0-999" / "0") in str(error)
    assert executor.submit(identity, 5).result(PATIENCE) == 5


def test_damaged_outcomes_of_jobs_that_live_on(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """The same, with the grace of the executor."""
    executor = make_executor(grace=2, max_workers=1, max_tasks_per_child=None)
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    outcomes = finished_of_pool(executor) / "0-999" / "0"
    outcomes.write_bytes(b"nonsense")

    error = noticed(future, JobLost, within=20)

    assert f"{outcomes} is cut short or damaged" in str(error)
    gate.open()
    assert executor.submit(identity, 5).result(PATIENCE) == 5


def damage_own_outcomes(gate: Gate, damage: str) -> str:
    """Let the worker publish damaged outcomes."""
    outcomes_file = outcomes_file_of_this_job()
    publish = outcomes_file.publish

    def publish_damaged(outcomes: Any, **options: Any) -> bool:
        own = Path(outcomes._own)
        content = own.read_bytes()
        if damage == "truncated":
            os.truncate(own, len(content) - 3)
        elif damage == "empty":
            os.truncate(own, 0)
        elif damage == "corrupt":
            own.write_bytes(content[:-3] + b"abc")
        published = bool(publish(outcomes, **options))
        if damage == "directory":
            Path(outcomes._final).unlink()
            Path(outcomes._final).mkdir()
        return published

    outcomes_file.publish = publish_damaged
    return gate.hold("a")


# A file system that fails for a while.


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler: gcc")
@pytest.mark.parametrize(("error", "seconds"), [("ESTALE", 0), ("EIO", 1)])
def test_a_job_whose_file_system_fails_for_a_while(
    slurm: SlurmCluster, tmp_path: Path, error: str, seconds: float
) -> None:
    """Each operation in turn; all of them are in tests/faults."""
    fault = Fault(error, 1, seconds)

    assert run_calls(fault, tmp_path, MANY, on_slurm=True) == []


# Full disks.


@needs_root
def test_a_disk_that_is_full_on_the_node(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    mount_tmpfs: MountTmpfs,
    noticed: Noticed,
) -> None:
    """The value does not fit: the call fails with the system's error, and a note."""
    executor = make_executor(directory=mount_tmpfs("size=400k"), grace=2)

    error = noticed(executor.submit(fill_with, 3 << 20), OSError, within=20)

    assert error.errno == errno.ENOSPC
    assert "The call ended well, but its value (" in error.__notes__[0]
    assert executor.submit(identity, 5).result(PATIENCE) == 5


def use_up(directory: str) -> int:
    """Leave no byte on a file system."""
    with Path(directory, "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return 0


@needs_root
@pytest.mark.parametrize("workers", [None, 1], ids=["job", "worker"])
def test_a_disk_that_is_full_to_the_last_byte(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    mount_tmpfs: MountTmpfs,
    noticed: Noticed,
    workers: int | None,
) -> None:
    """There is no room even for the words that tell of it, but for a link."""
    directory = mount_tmpfs("size=600k")
    pool = {"max_workers": workers, "max_tasks_per_child": None} if workers else {}
    executor = make_executor(directory=directory, grace=2, **pool)

    error = noticed(executor.submit(use_up, str(directory)), JobFailed, within=30)

    assert "could not be written: No space left on device" in str(error)
    assert "'df'" in str(error)
    (directory / "filler").unlink()
    assert executor.submit(identity, 5).result(PATIENCE) == 5


@needs_root
def test_a_disk_that_has_room_again_within_the_grace(
    slurm: SlurmCluster, make_executor: MakeExecutor, mount_tmpfs: MountTmpfs
) -> None:
    """The job has waited: the value arrives."""
    directory = mount_tmpfs("size=600k")
    executor = make_executor(directory=directory, grace=30)
    future = executor.submit(use_up, str(directory))
    assert_soon(lambda: os.statvfs(directory).f_bavail == 0, PATIENCE)
    with pytest.raises(TimeoutError):
        future.result(1)

    (directory / "filler").unlink()

    assert future.result(PATIENCE) == 0


@needs_root
def test_a_disk_that_is_full_already(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    mount_tmpfs: MountTmpfs,
    noticed: Noticed,
) -> None:
    """Nothing can be written by client or node: errors, within the grace."""
    directory = mount_tmpfs("size=400k")
    executor = make_executor(directory=directory, grace=3)
    kept = executor.submit(identity, 5)  # with its files: else they would leave room
    assert kept.result(PATIENCE) == 5
    with pytest.raises(OSError, match="No space"):
        (directory / "filler").write_bytes(bytes(1 << 20))

    error = noticed(executor.submit(identity, 5), SubmitError, within=20)

    assert "No space left on device" in str(error)
    (directory / "filler").unlink()
    assert executor.submit(identity, 5).result(PATIENCE) == 5


@needs_root
def test_no_inodes(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    mount_tmpfs: MountTmpfs,
    noticed: Noticed,
    gate: Gate,
) -> None:
    """The job cannot make its files: JobFailed names 'df -i' among what to check."""
    directory = mount_tmpfs("size=4m,nr_inodes=40")
    executor = make_executor(directory=directory, hold=True)
    future = executor.submit(identity, 5)
    assert_soon(lambda: future.job_id, PATIENCE)
    with contextlib.suppress(OSError):
        for number in range(100):
            (directory / f"filler{number}").touch()

    slurm.run("scontrol", "release", job_id_of(future))

    error = noticed(future, JobFailed, within=30)
    assert "never began" in str(error)
    assert "'df' and 'df -i' tell" in str(error)


# Directories that go away, or cannot be used.


@pytest.mark.parametrize("what", ["run", "submission"])
def test_the_directory_is_deleted(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    gate: Gate,
    noticed: Noticed,
    what: str,
) -> None:
    """What lies in it is lost, and each call says so within the grace."""
    executor = make_executor(grace=2)
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    submission = directory_of(future).parents[2]
    shutil.rmtree(submission.parent if what == "run" else submission)
    gate.open()

    error = noticed(future, JobLost, within=20)

    assert f"{submission} was deleted" in str(error)


def test_the_directory_is_deleted_before_the_job_starts(
    slurm: SlurmCluster, make_executor: MakeExecutor, noticed: Noticed
) -> None:
    """The same; and later calls have a new run."""
    executor = make_executor(grace=2, hold=True)
    future = executor.submit(identity, 5)
    assert_soon(lambda: future.state is JobState.PENDING, PATIENCE)
    run = directory_of(future).parents[3]
    facts = run / "0001/submission.json"
    assert_soon(lambda: facts.exists() and "submitted" in facts.read_text())
    shutil.rmtree(run)
    slurm.run("scontrol", "release", job_id_of(future))

    noticed(future, JobLost, within=20)

    assert executor.options(hold=None).submit(identity, 6).result(PATIENCE) == 6


def test_the_directory_of_jobs_that_live_on_is_deleted(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate, noticed: Noticed
) -> None:
    """Calls that wait or run are lost, later ones have new jobs."""
    executor = make_executor(max_workers=1, max_tasks_per_child=None)
    running, waiting = put_into_queue(executor, gate, "ab")
    gate.await_arrivals("a")
    shutil.rmtree(executor.directory)

    for future in (running, waiting):
        assert "was deleted" in str(noticed(future, JobLost, within=20))
    assert executor.submit(identity, 6).result(PATIENCE) == 6


@needs_root
def test_a_directory_that_becomes_read_only(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    mount_tmpfs: MountTmpfs,
    gate: Gate,
    noticed: Noticed,
) -> None:
    """Calls that run cannot leave their outcome, new ones cannot be submitted."""
    directory = mount_tmpfs("size=4m")
    executor = make_executor(directory=directory, grace=3)
    future = executor.submit(gate.hold, "a")
    gate.await_arrivals("a")
    subprocess.run(["mount", "-o", "remount,ro,force", directory], check=False)
    if os.access(directory, os.W_OK):
        pytest.skip("the file system cannot be remounted while files are open")

    error = noticed(executor.submit(identity, 1), SubmitError, within=20)
    assert "Read-only" in str(error)
    gate.open()
    assert future.result(PATIENCE) == "a"


@needs_root
def test_a_read_only_directory_is_refused(mount_tmpfs: MountTmpfs) -> None:
    """The constructor says so."""
    directory = mount_tmpfs("size=4m,ro")

    with pytest.raises(OptionError, match="Read-only file system"):
        SlurmExecutor(directory=directory / "runs")


# Names and modes.


@pytest.mark.parametrize(
    "name",
    [
        "with blanks  and\ttab",
        "100%j%A%%",
        "it's \"quoted\"",
        "$(touch pwned) `touch pwned` $HOME",
        "grüße-日本語",
        "; & | > < * ? [a] {b} ~ # !",
        "-n",
        "x" * 200,
        "a/" * 60 + "deep",
    ],
    ids=["blanks", "percent", "quotes", "dollar", "unicode", "shell", "option",
         "long", "deep"],
)  # fmt: skip
def test_names_of_directories(
    slurm: SlurmCluster, make_executor: MakeExecutor, tmp_path: Path, name: str
) -> None:
    """Arrays and plain jobs work, and Slurm's logs are found."""
    executor = make_executor(directory=tmp_path / name)

    assert list(executor.map(identity, "ab", timeout=PATIENCE)) == ["a", "b"]
    assert executor.submit(identity, "c").result(PATIENCE) == "c"
    assert not list(tmp_path.rglob("pwned"))


def test_a_backslash_is_refused(slurm: SlurmCluster, tmp_path: Path) -> None:
    """Slurm cannot create its log below it."""
    with pytest.raises(OptionError, match="character"):
        SlurmExecutor(directory=tmp_path / "back\\slash")


def test_umask_077(
    slurm: SlurmCluster, make_executor: MakeExecutor, tmp_path: Path
) -> None:
    """Nobody else may read anything, and everything works."""
    before = os.umask(0o077)
    try:
        executor = make_executor(keep="always")
        assert list(executor.map(identity, "ab", timeout=PATIENCE)) == ["a", "b"]
        executor.shutdown()
    finally:
        os.umask(before)

    open_to_others = [
        path
        for path in (tmp_path / "runs").rglob("*")
        if not path.is_symlink() and path.stat().st_mode & 0o077
    ]
    assert open_to_others == []


def test_a_node_without_the_directory_of_the_client(
    slurm: SlurmCluster,
    make_executor: MakeExecutor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    noticed: Noticed,
) -> None:
    """The call does not run elsewhere, where its files would be lost."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    executor = make_executor(hold=True)
    future: SlurmFuture[str] = executor.submit(os.getcwd)
    assert_soon(lambda: future.job_id, PATIENCE)
    monkeypatch.undo()
    slurm.run("true")
    here.rename(tmp_path / "there")
    slurm.run("scontrol", "release", job_id_of(future))

    error = noticed(future, JobFailed, within=20)
    assert f"in which the call was submitted, {here} (No such file" in str(error)


def test_a_late_client(
    slurm: SlurmCluster, make_executor: MakeExecutor, gate: Gate
) -> None:
    """A program that is stopped for a while finds its results afterwards."""
    executor = make_executor(grace=0.5)
    futures = [executor.submit(gate.hold, name) for name in "ab"]
    gate.await_arrivals("a", "b")
    gate.open()
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)
    began = time.monotonic()

    assert [future.result(PATIENCE) for future in futures] == ["a", "b"]
    assert time.monotonic() - began < 20
