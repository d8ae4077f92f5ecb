"""Races for a run: one owner at most, and nobody is locked out, whoever stops or dies.

Step by step: before each operation on files of one program, or instead of it, something
happens. And with processes, at random.
"""

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from slurm_futures.errors import RunInUse
from slurm_futures.runs.lease import Lease
from slurm_futures.runs.owner import Owner, format_facts, read_owner
from tests.unit.runs.leases import DEAD, QUICK, leave, names_in, on_host
from tests.waiting import assert_soon

OPERATIONS = "mkdir listdir symlink readlink rename unlink".split()
SCRIPT = [sys.executable, "-m", "tests.unit.runs.leases"]

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: it makes namespaces"
)


class Killed(BaseException):
    """A program ends without doing anything more."""


class Steps:
    """What happens at one of the operations on files, counted from 0.

    Args:
        number: which one.
        event: happens then; gets the operation, and does it or not.

    Attributes:
        count: of operations so far.
        last: the name of the last one.
    """

    def __init__(
        self,
        number: int,
        event: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self.number = number
        self.event = event
        self.count = 0
        self.last = ""
        self._happens = False

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let it happen within the block."""
        with contextlib.ExitStack() as patches:
            for name in OPERATIONS:
                wrapped = self._wrap(name, getattr(os, name))
                patches.enter_context(mock.patch.object(os, name, wrapped))
            yield

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._happens:
                return real(*args, **options)
            self.count += 1
            if self.count - 1 != self.number:
                return real(*args, **options)
            self.last = name
            self._happens = True
            try:
                return self.event(lambda: real(*args, **options))
            finally:
                self._happens = False

        return call


def take(run: Path, host: str) -> Lease:
    """Own a run as a program on that host would, once the owner counts as dead."""
    return Lease.take(run, QUICK, on_host(host))


def is_owner(lease: Lease | None) -> bool:
    """Whether a program may act."""
    if lease is None:
        return False
    try:
        lease.check()
    except RunInUse:
        return False
    return True


def begin_new(run: Path) -> None:
    """Let nobody have owned it."""


def begin_free(run: Path) -> None:
    """Let the owner have given it back."""
    take(run, "first").release()


def begin_dead(run: Path) -> None:
    """Let the owner be dead, as its pid says."""
    leave(run, format_facts(DEAD, "token"), 3)


def begin_silent(run: Path) -> None:
    """Let the owner be stopped, or dead, on another host."""
    take(run, "first")


BEGINNINGS = [begin_new, begin_free, begin_dead, begin_silent]


def one_takes(run: Path) -> list[Lease]:
    """Let another program own it."""
    return [take(run, "second")]


def one_takes_and_gives_back(run: Path) -> list[Lease]:
    """Let another program have owned it."""
    lease = take(run, "second")
    lease.release()
    return [lease]


def three_take(run: Path) -> list[Lease]:
    """Let the links that were there be removed long ago."""
    leases = one_takes_and_gives_back(run)
    return [*leases, take(run, "third"), take(run, "fourth")]


RIVALS = [one_takes, one_takes_and_gives_back, three_take]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass between looks."""
    monkeypatch.setattr("slurm_futures.runs.lease.sleep", lambda _: None)


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("begin", BEGINNINGS)
def test_one_that_is_stopped_while_it_takes_a_run(
    tmp_path: Path, begin: Callable[[Path], None], rival: Callable[[Path], list[Lease]]
) -> None:
    """Between any two steps, while others own it: one owner in the end."""
    number = 0
    while True:
        run = tmp_path / f"run{number}"
        run.mkdir()
        begin(run)
        rivals: list[Lease] = []

        def stop(operation: Callable[[], Any]) -> Any:
            rivals.extend(rival(run))  # noqa: B023  (called in this round)
            return operation()

        steps = Steps(number, stop)
        lease = None
        with steps.active(), contextlib.suppress(RunInUse, FileNotFoundError):
            lease = take(run, "here")
        if steps.count <= number:
            break

        owners = [each for each in [lease, *rivals] if is_owner(each)]
        assert len(owners) <= 1, (number, steps.last)
        assert len(owners) == 1 or read_owner(run) is None  # the last gave it back
        assert is_owner(take(run, "next"))
        assert not any(map(is_owner, owners))
        number += 1
    assert number >= 5


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("action", [Lease.beat, Lease.release], ids=["beat", "release"])
def test_one_that_is_stopped_while_it_owns_a_run(
    tmp_path: Path,
    action: Callable[[Lease], object],
    rival: Callable[[Path], list[Lease]],
) -> None:
    """Whatever it does when it wakes up harms nobody who has taken it over."""
    number = 0
    while True:
        run = tmp_path / f"run{number}"
        run.mkdir()
        lease = take(run, "here")
        rivals: list[Lease] = []

        def stop(operation: Callable[[], Any]) -> Any:
            rivals.extend(rival(run))  # noqa: B023  (called in this round)
            return operation()

        steps = Steps(number, stop)
        with steps.active():
            action(lease)
        if steps.count <= number:
            break

        assert not is_owner(lease)
        last = rivals[-1]
        assert is_owner(last) or rival is one_takes_and_gives_back
        assert is_owner(take(run, "next"))
        assert not is_owner(last)
        number += 1
    assert number >= 3


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("begin", BEGINNINGS)
def test_one_that_is_killed_while_it_takes_or_has_a_run(
    tmp_path: Path, begin: Callable[[Path], None], done: bool
) -> None:
    """Before or after each step: the next one owns it, and nothing else is left."""
    number = 0
    while True:
        run = tmp_path / f"run{number}"
        run.mkdir()
        begin(run)

        def kill(operation: Callable[[], Any]) -> None:
            with contextlib.suppress(FileExistsError):
                if done:
                    operation()
            raise Killed

        steps = Steps(number, kill)
        with (
            steps.active(),
            mock.patch.object(Lease, "_give_back"),
            contextlib.suppress(Killed),
        ):
            lease = take(run, "here")
            lease.beat()
        with steps.active(), contextlib.suppress(Killed):
            if steps.count <= number:
                lease.release()
        if steps.count <= number:
            break

        heir = take(run, "next")
        assert is_owner(heir)
        heir.release()
        assert len(names_in(run)) == 1
        number += 1
    assert number >= 8


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_ctrl_c_while_a_run_is_taken(
    tmp_path: Path, begin: Callable[[Path], None]
) -> None:
    """After each step: the program goes on, and does not own it."""
    number = 0
    while True:
        run = tmp_path / f"run{number}"
        run.mkdir()
        begin(run)

        def interrupt(operation: Callable[[], Any]) -> None:
            with contextlib.suppress(FileExistsError):
                operation()
            raise KeyboardInterrupt

        steps = Steps(number, interrupt)
        with steps.active(), contextlib.suppress(KeyboardInterrupt):
            take(run, "here")
        if steps.count <= number:
            break

        assert read_owner(run) in {None, Owner("first", os.getpid())}
        assert is_owner(take(run, "next"))
        number += 1
    assert number >= 5


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_answers_that_are_lost(tmp_path: Path, begin: Callable[[Path], None]) -> None:
    """NFS asks again, and hears that what it wants is there already, or is gone."""
    number = 0
    while True:
        run = tmp_path / f"run{number}"
        run.mkdir()
        begin(run)

        def lose(operation: Callable[[], Any]) -> Any:
            found = operation()
            answers = {"mkdir": errno.EEXIST, "symlink": errno.EEXIST}
            answers |= {"rename": errno.ENOENT, "unlink": errno.ENOENT}
            if steps.last in answers:  # noqa: B023  (called in this round)
                code = answers[steps.last]  # noqa: B023  (the same)
                raise OSError(code, os.strerror(code))
            return found

        steps = Steps(number, lose)
        with steps.active():
            lease = take(run, "here")
            for _ in range(3):
                assert lease.beat() is not None
            owned = is_owner(lease)
            lease.release()
        if steps.count <= number:
            break

        assert owned, (number, steps.last)
        assert read_owner(run) is None
        assert is_owner(take(run, "next"))
        number += 1
    assert number >= 10


# Processes.


def start(command: str, *args: object, prefix: tuple[str, ...] = ()) -> Any:
    """Start a program."""
    return subprocess.Popen(
        [*prefix, *SCRIPT, command, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_eight_processes_own_a_run_in_turn(tmp_path: Path) -> None:
    """Two hundred times altogether, and never two at a time."""
    racers = [start("race", tmp_path, 25) for _ in range(8)]
    errors = [racer.communicate(timeout=120)[1] for racer in racers]

    assert errors == [""] * 8
    assert [racer.returncode for racer in racers] == [0] * 8
    assert len(names_in(tmp_path)) == 1


def test_processes_that_are_killed_leave_the_run_to_others(tmp_path: Path) -> None:
    """At random moments, some of them stopped before."""
    chance = random.Random(7)  # noqa: S311  (chooses victims)
    racers = [start("race", tmp_path, -1) for _ in range(4)]
    seen: set[str] = set()
    assert_soon(tmp_path.joinpath("owner").exists)
    for _ in range(40):
        assert_soon(lambda: names_in(tmp_path) - seen)  # somebody has moved on
        seen.update(names_in(tmp_path))
        victim = chance.choice(racers)
        if chance.random() < 0.5:
            victim.send_signal(signal.SIGSTOP)
        victim.kill()
        assert victim.communicate(timeout=60)[1] == ""
        assert victim.returncode == -signal.SIGKILL
        racers[racers.index(victim)] = start("race", tmp_path, -1)
    for racer in racers:
        racer.kill()
        assert racer.communicate(timeout=60)[1] == ""

    lease = Lease.take(tmp_path)
    lease.check()
    lease.release()
    assert len(names_in(tmp_path)) == 1


def test_process_that_was_stopped_notices_that_it_has_lost(tmp_path: Path) -> None:
    """On the same host it lives; elsewhere it counts as dead."""
    with start("hold", tmp_path) as process:
        assert process.stdout.readline() == f"owned {process.pid}\n"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(RunInUse):
            Lease.take(tmp_path)
        lease = take(tmp_path, "far")
        process.send_signal(signal.SIGCONT)

        process.stdin.write("check\n")
        process.stdin.flush()

        assert "RunInUse" in (said := process.stdout.readline())
        assert f"process {os.getpid()} on host far has taken it over" in said
        lease.check()
        process.communicate(timeout=60)


@needs_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
@pytest.mark.parametrize(
    "options",
    [
        ["--uts", "sh", "-c", 'hostname far && exec "$@"', "sh"],
        ["--pid", "--fork", "--kill-child", "--mount-proc"],
        ["--pid", "--fork", "--kill-child"],
    ],
    ids=["name", "pids", "pids, and a /proc that shows others"],
)
def test_process_in_another_container_counts_as_one_elsewhere(
    tmp_path: Path, options: list[str]
) -> None:
    """By its host name, or since its pid means another process here."""
    with start("hold", tmp_path, prefix=("unshare", *options)) as process:
        pid = int(process.stdout.readline().split()[1])
        host = "far" if "--uts" in options else os.uname().nodename
        assert read_owner(tmp_path) == Owner(host, pid)

        Lease.take(tmp_path, QUICK).check()  # it does not beat

        process.stdin.write("check\n")
        process.stdin.flush()
        assert "RunInUse" in process.stdout.readline()
        process.communicate(timeout=60)
