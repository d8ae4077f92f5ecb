"""One owner of a run: who may have it, who keeps it, who loses it."""

import copy
import errno
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import Owner
from slurm_futures.errors import RunInUse, RunNotFound, SlurmFuturesError
from slurm_futures.runs import lease as module
from slurm_futures.runs.lease import Lease, LeaseTimes
from slurm_futures.runs.owner import format_facts, read_owner
from slurm_futures.runs.program import Program
from tests.failing_files import FailingFiles
from tests.unit.runs.leases import DEAD, QUICK, leave, names_in, on_host


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Give a list of what happens in the pauses of those who look; none takes time."""
    events: list[Callable[[], object]] = []

    def pause(seconds: float) -> None:
        if events:
            events.pop(0)()

    monkeypatch.setattr(module, "sleep", pause)
    return events


# Taking it, and giving it back.


def test_free_run_is_owned_by_who_takes_it(tmp_path: Path) -> None:
    """And anybody can see that."""
    lease = Lease.take(tmp_path)

    lease.check()
    assert lease.lost is None
    assert read_owner(tmp_path) == Owner(os.uname().nodename, os.getpid())


def test_run_that_was_given_back_is_free(tmp_path: Path) -> None:
    """Only a link that says so is left, however often that happens."""
    for _ in range(3):
        lease = Lease.take(tmp_path)
        lease.release()
        lease.release()

    assert read_owner(tmp_path) is None
    assert len(names_in(tmp_path)) == 1


def test_run_that_never_had_an_owner_is_free(tmp_path: Path) -> None:
    """As before there were owners."""
    assert read_owner(tmp_path) is None


def test_second_executor_of_a_program_does_not_own(tmp_path: Path) -> None:
    """It learns so at once."""
    lease = Lease.take(tmp_path)

    with pytest.raises(RunInUse, match=r"another SlurmExecutor.*shutdown") as caught:
        Lease.take(tmp_path)

    assert (caught.value.host, caught.value.pid) == (os.uname().nodename, os.getpid())
    lease.check()


def test_lease_that_was_dropped_is_free_in_its_program(tmp_path: Path) -> None:
    """Also one that could not be given back."""
    Lease.take(tmp_path)

    assert read_owner(tmp_path) is None
    Lease.take(tmp_path).check()


def test_lease_that_cannot_be_given_back_is_free_in_its_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A notebook need not start anew."""
    caplog.set_level(logging.INFO)
    lease = Lease.take(tmp_path, QUICK)
    with FailingFiles(tmp_path, 0, 60, errno.EIO).active():
        lease.release()

    assert "cannot be given back" in caplog.text
    assert lease.beat() is None
    Lease.take(tmp_path).check()


def test_lease_is_neither_pickled_nor_copied(tmp_path: Path) -> None:
    """One executor has it."""
    lease = Lease.take(tmp_path)

    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot pickle or copy"):
            attempt(lease)


# Owners on the same host.


def test_dead_process_is_followed_at_once(
    tmp_path: Path, pauses: list[Callable[[], object]]
) -> None:
    """Its pid says so."""
    leave(tmp_path, format_facts(DEAD, "token"))
    pauses.append(lambda: pytest.fail("it waits"))

    assert read_owner(tmp_path) is None
    Lease.take(tmp_path).check()
    assert names_in(tmp_path) == {"2", "2.1"}


def test_pid_of_another_process_is_that_of_a_dead_one(tmp_path: Path) -> None:
    """Pids are used again."""
    again = replace(Program.this(), pid=1)
    leave(tmp_path, format_facts(again, "token"))

    assert read_owner(tmp_path) is None
    Lease.take(tmp_path).check()


def test_process_that_nobody_has_waited_for_is_dead(tmp_path: Path) -> None:
    """A zombie does nothing any more."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.runs.leases", "hold", tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"owned")
        with pytest.raises(RunInUse, match=f"process {process.pid} on host") as caught:
            Lease.take(tmp_path)
        assert caught.value.pid == process.pid

        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        Lease.take(tmp_path).check()


# Owners elsewhere.


def test_owner_elsewhere_that_beats_lives(
    tmp_path: Path,
    pauses: list[Callable[[], object]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That is said as soon as it is seen; the wait for it is announced."""
    other = Lease.take(tmp_path, here=on_host("far"))
    pauses += [lambda: None] * 50 + [other.beat]

    with pytest.raises(RunInUse, match=f"process {os.getpid()} on host far") as caught:
        Lease.take(tmp_path)

    assert caught.value.host == "far"
    assert pauses == []
    assert caplog.text.count("waits up to 120 s") == 1
    assert read_owner(tmp_path) == Owner("far", os.getpid())
    other.check()


def test_owner_elsewhere_that_is_silent_is_dead(
    tmp_path: Path,
    pauses: list[Callable[[], object]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After two minutes. If it was only stopped, it notices before it does harm."""
    other = Lease.take(tmp_path, here=on_host("far"))
    looks: list[int] = []
    pauses += [lambda: looks.append(1)] * 1000

    lease = Lease.take(tmp_path, here=on_host("near"))

    times = LeaseTimes()
    assert len(looks) * times.look == 120
    lease.check()
    with pytest.raises(RunInUse, match="on host near has taken it over") as caught:
        other.check()
    assert caught.value.host == "near"
    assert isinstance(other.lost, RunInUse)
    assert other.beat() is None
    assert "has taken it over" in caplog.text
    other.release()
    lease.check()
    assert names_in(tmp_path) == {"2", "2.1"}


def test_new_owner_elsewhere_has_two_minutes_of_its_own(
    tmp_path: Path, pauses: list[Callable[[], object]]
) -> None:
    """What the last one has missed does not count."""
    Lease.take(tmp_path, QUICK, on_host("far"))
    leases: list[Lease] = []
    beats: list[float | None] = []

    def follow() -> None:
        leases.append(Lease.take(tmp_path, QUICK, on_host("farther")))

    pauses += [lambda: None] * 4 + [follow] + [lambda: None] * (5 + 3)
    pauses.append(lambda: beats.append(leases[0].beat()))

    with pytest.raises(RunInUse, match="on host farther"):
        Lease.take(tmp_path, QUICK)

    assert beats


def test_run_that_is_given_back_while_somebody_waits_is_free(
    tmp_path: Path, pauses: list[Callable[[], object]]
) -> None:
    """The wait ends."""
    other = Lease.take(tmp_path, here=on_host("far"))
    pauses += [other.release, lambda: pytest.fail("it waits on")]

    Lease.take(tmp_path).check()


@pytest.mark.parametrize(
    "change",
    [{"host": "far"}, {"system": "later boot"}, {"system": ""}, {"user": 4711}],
    ids=["host", "boot or namespace", "unknown", "user"],
)
def test_pid_says_nothing_elsewhere(
    tmp_path: Path, change: dict[str, Any], pauses: list[Callable[[], object]]
) -> None:
    """A number of another system, or a process that may be hidden."""
    looks: list[int] = []
    pauses += [lambda: looks.append(1)] * 1000
    leave(tmp_path, format_facts(replace(DEAD, **change), "token"))

    assert read_owner(tmp_path) is not None
    Lease.take(tmp_path).check()
    assert len(looks) == 60


def test_nothing_is_known_where_there_is_no_proc(
    tmp_path: Path, pauses: list[Callable[[], object]]
) -> None:
    """But that the program itself owns the run."""
    here = replace(Program.this(), system="", started=0)
    lease = Lease.take(tmp_path, QUICK, here)

    with pytest.raises(RunInUse, match="another SlurmExecutor"):
        Lease.take(tmp_path, QUICK, here)

    del lease
    Lease.take(tmp_path, QUICK, here).check()


# Leases that make no sense.


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "[" * 4000,
        "7",
        "{}",
        format_facts(DEAD, "token").replace('"version": 1', '"version": 2'),
        format_facts(DEAD, "token").replace("4194304", '"4194304"'),
        os.fsdecode(b"\xff\xfe"),
    ],
    ids=["word", "deep", "number", "empty", "newer", "kind", "bytes"],
)
def test_lease_that_cannot_be_read_counts_as_one_elsewhere(
    tmp_path: Path, text: str, pauses: list[Callable[[], object]]
) -> None:
    """Its beat decides, in the way of all versions."""
    link = leave(tmp_path, text)
    pauses.append(lambda: link.with_name("1.1").touch())

    assert read_owner(tmp_path) == Owner(None, None)
    with pytest.raises(RunInUse, match="cannot name") as caught:
        Lease.take(tmp_path, QUICK)
    assert (caught.value.host, caught.value.pid) == (None, None)
    Lease.take(tmp_path, QUICK).check()


@pytest.mark.parametrize("kind", ["empty", "full", "directory"])
def test_lease_that_is_no_link_counts_as_one_elsewhere(
    tmp_path: Path, kind: str, pauses: list[Callable[[], object]]
) -> None:
    """As a copy of a run may have it."""
    place = tmp_path / "owner" / "7"
    if kind == "directory":
        place.mkdir(parents=True)
    else:
        place.parent.mkdir()
        place.write_text("text" if kind == "full" else "")

    assert read_owner(tmp_path) == Owner(None, None)
    lease = Lease.take(tmp_path, QUICK)

    lease.check()
    assert {"8", "8.1"} <= names_in(tmp_path)


def test_other_names_mean_nothing(tmp_path: Path) -> None:
    """Whoever has put them there."""
    names = {".nfs0001", "007", "0", "8.0", "1.2.3", "+5", "٣", "7.x"}
    tmp_path.joinpath("owner").mkdir()
    for name in names:
        tmp_path.joinpath("owner", name).touch()

    Lease.take(tmp_path).check()

    assert names_in(tmp_path) == {*names, "1", "1.1"}


@pytest.mark.parametrize("digits", [20, 100, 255])
def test_number_may_be_large(
    tmp_path: Path, digits: int, pauses: list[Callable[[], object]]
) -> None:
    """As far as there are names."""
    leave(tmp_path, "garbage", int("9" * digits))

    if digits == 255:
        with pytest.raises(OSError, match="File name too long"):
            Lease.take(tmp_path, QUICK)
    else:
        Lease.take(tmp_path, QUICK).check()


# Errors of the file system.


def count_operations(run: Path) -> int:
    """Return how many operations it takes to own a run whose owner is dead."""
    leave(run, format_facts(DEAD, "token"))
    files = FailingFiles(run)
    with files.active():
        Lease.take(run)
    return len(files.operations)


def test_each_operation_may_fail_for_a_moment(tmp_path: Path) -> None:
    """The run is owned all the same."""
    count = count_operations(tmp_path)
    assert count >= 6
    for number in range(count):
        run = tmp_path / f"run{number}"
        run.mkdir()
        leave(run, format_facts(DEAD, "token"))
        files = FailingFiles(run, number, error=errno.ESTALE)

        with files.active():
            lease = Lease.take(run)

        assert files.failed, number
        lease.check()
        assert read_owner(run) is not None


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_error_is_no_sign_of_death(
    tmp_path: Path, error: int, pauses: list[Callable[[], object]]
) -> None:
    """Nobody can tell: the run stays as it is."""
    other = Lease.take(tmp_path, QUICK, on_host("far"))
    before = names_in(tmp_path)

    with FailingFiles(tmp_path, 0, 60, error).active():
        with pytest.raises(OSError, match=r"owner") as caught:
            Lease.take(tmp_path, QUICK)
        with pytest.raises(OSError, match=r"owner"):
            read_owner(tmp_path)
        with pytest.raises(OSError, match=r"owner"):
            other.check()
        assert other.beat() == QUICK.look

    assert caught.value.errno == error
    assert names_in(tmp_path) == before
    assert other.lost is None
    other.check()
    assert other.beat() == QUICK.beat


def test_listing_that_stays_old_is_an_error_that_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names a lease that was followed long ago: nobody can tell whose the run is."""
    lease = Lease.take(tmp_path)
    monkeypatch.setattr(os, "listdir", lambda _: ["7"])

    with pytest.raises(OSError, match="an old listing") as caught:
        lease.check()

    assert caught.value.errno == errno.ESTALE
    assert lease.lost is None


def test_run_that_was_deleted_is_lost(tmp_path: Path) -> None:
    """And not owned again when another one has its name."""
    run = tmp_path / "run"
    run.mkdir()
    lease = Lease.take(run)
    run.rename(tmp_path / "moved")

    with pytest.raises(RunNotFound, match="was deleted"):
        lease.check()

    run.mkdir()
    Lease.take(run)
    with pytest.raises(RunNotFound, match="was deleted"):
        lease.check()


def test_run_of_the_same_name_and_number_is_another_one(tmp_path: Path) -> None:
    """Deleted and begun anew, both before anybody looked."""
    run = tmp_path / "run"
    run.mkdir()
    lease = Lease.take(run)
    run.rename(tmp_path / "moved")
    run.mkdir()
    other = Lease.take(run)

    with pytest.raises(RunInUse, match="not owned by this program any more"):
        lease.check()
    other.check()


def test_beat_whose_answer_was_lost_goes_on(tmp_path: Path) -> None:
    """It was done, though an error came back."""
    lease = Lease.take(tmp_path)
    place = tmp_path / "owner"
    place.joinpath("1.1").rename(place / "1.2")

    assert lease.beat() == LeaseTimes().beat
    assert lease.beat() == LeaseTimes().beat

    assert names_in(tmp_path) == {"1", "1.3"}


# Children.

#: What a program does that forks.
FORK = """
import os, sys
from pathlib import Path
from slurm_futures.errors import RunInUse
from slurm_futures.runs.lease import Lease
run = Path(sys.argv[1])
lease = Lease.take(run)
before = sorted(os.listdir(run / "owner"))
if os.fork() == 0:
    assert lease.beat() is None
    lease.release()
    for attempt in (lease.check, lambda: Lease.take(run)):
        try:
            attempt()
            os._exit(1)
        except RunInUse as error:
            assert error.pid == os.getppid(), error
    os._exit(0)
assert os.wait()[1] == 0
assert sorted(os.listdir(run / "owner")) == before
lease.check()
lease.beat()
"""


def test_forked_child_owns_nothing(tmp_path: Path) -> None:
    """Neither does it beat, or give the run back."""
    subprocess.run([sys.executable, "-c", FORK, tmp_path], check=True, timeout=60)


def test_error_of_a_loss_can_be_raised_in_many_places(tmp_path: Path) -> None:
    """Each time anew."""
    lease = Lease.take(tmp_path, QUICK, on_host("far"))
    Lease.take(tmp_path, QUICK, on_host("near"))
    raised: list[SlurmFuturesError] = []
    for _ in range(2):
        with pytest.raises(RunInUse) as caught:
            lease.check()
        raised.append(caught.value)

    assert raised[0] is not raised[1]
    assert str(raised[0]) == str(raised[1])
