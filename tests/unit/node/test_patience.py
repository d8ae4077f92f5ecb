"""Waiting for a file system that fails, and files whose descriptors are gone."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.node import formats, patience
from slurm_futures.node.outcomes import OutcomesFile
from slurm_futures.node.own_file import OwnFile
from slurm_futures.node.patience import Patience


class Clock:
    """A clock that goes on with each pause."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(patience, "grace", 10.0)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give a clock, and 10 s to a file system."""
    return Clock(monkeypatch)


def failing(number: int, times: float = float("inf")) -> Callable[[], str]:
    """Return an operation that fails so many times."""
    left = [times]

    def operate() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return "done"

    return operate


def test_an_operation_is_repeated_until_it_works(clock: Clock) -> None:
    """With pauses that grow."""
    assert Patience().insist(failing(errno.ESTALE, 6)) == "done"
    assert 2 < clock.now - 100 < 4


def test_patience_ends(clock: Clock) -> None:
    """At the end of the grace, with the last error; after that nothing is repeated."""
    one = Patience()
    with pytest.raises(OSError, match="No space"):
        one.insist(failing(errno.ENOSPC))
    assert clock.now == pytest.approx(110)

    with pytest.raises(OSError, match="No space"):
        one.insist(failing(errno.ENOSPC, 1))
    assert clock.now == pytest.approx(110)


def test_all_operations_share_the_grace(clock: Clock) -> None:
    """However many of them fail one after the other."""
    one = Patience()
    for _ in range(3):
        one.insist(failing(errno.EIO, 6))
    assert clock.now < 110

    with pytest.raises(OSError, match="output error"):
        one.insist(failing(errno.EIO, 7))
    assert clock.now == pytest.approx(110)


@pytest.mark.parametrize(
    "number", [errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.EMFILE]
)
def test_what_will_not_change_is_not_repeated(clock: Clock, number: int) -> None:
    """Answers, and that this process has no descriptor left."""
    with pytest.raises(OSError, match=r"\[Errno"):
        Patience().insist(failing(number))
    assert clock.now == 100


# Files of ours.


def test_a_file_is_found_again_by_any_of_its_names(tmp_path: Path) -> None:
    """It was renamed, and a call has closed its descriptor."""
    names = f"{tmp_path}/7.a", f"{tmp_path}/7.a.withdrawn"
    file = OwnFile(names, os.O_RDWR | os.O_CREAT)
    assert os.write(file.descriptor, b"text") == 4
    os.close(file.descriptor)
    Path(names[0]).rename(names[1])

    assert os.read(file.descriptor, 9) == b"text"
    file.close()
    file.close()


def test_a_file_of_another_is_neither_written_nor_closed(tmp_path: Path) -> None:
    """Which has got our number."""
    file = OwnFile([f"{tmp_path}/ours"], os.O_RDWR | os.O_CREAT)
    number = file.descriptor
    with (tmp_path / "another").open("w") as another:
        os.dup2(another.fileno(), number)
        file.close()
        os.write(number, b"mine")
        assert file.descriptor != number
        os.write(file.descriptor, b"ours")
        file.close()
        os.close(number)
    assert (tmp_path / "another").read_text() == "mine"
    assert (tmp_path / "ours").read_text() == "ours"


def test_files_are_told_apart_where_there_is_no_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By device and number."""
    monkeypatch.setattr(os, "readlink", lambda _: failing(errno.ENOENT)())
    file = OwnFile([f"{tmp_path}/ours"], os.O_RDWR | os.O_CREAT)
    number = file.descriptor
    assert file.descriptor == number

    with (tmp_path / "another").open("w") as another:
        os.dup2(another.fileno(), number)
        assert file.descriptor != number
        file.close()
        os.close(number)


# Outcomes.


def test_what_the_system_has_dropped_is_written_again(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error of fsync Linux takes for written what it has not."""
    (tmp_path / "finished/0-999").mkdir(parents=True)
    file = OutcomesFile(str(tmp_path), 0, "a")
    file.append(0, formats.VALUE, b"value")
    content = (tmp_path / "finished/0-999/0.a").read_bytes()
    fail = failing(errno.EIO, 1)

    def fsync(descriptor: int) -> None:
        try:
            fail()
        except OSError:
            written.clear()
            raise

    written: list[bytes] = []
    write = os.pwrite

    def pwrite(descriptor: int, rest: bytes, start: int) -> int:
        written.append(bytes(rest))
        return write(descriptor, rest, start)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "pwrite", pwrite)

    assert file.publish(sync=True)
    assert written == [content]
    assert (tmp_path / "finished/0-999/0").read_bytes() == content


def test_a_rename_whose_answer_was_an_error_has_worked(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeated, it finds nothing to rename: the file has its final name."""
    (tmp_path / "finished/0-999").mkdir(parents=True)
    file = OutcomesFile(str(tmp_path), 0, "a")
    file.append(0, formats.VALUE, b"value")
    rename: Any = os.rename
    fail = failing(errno.EIO, 1)
    monkeypatch.setattr(os, "rename", lambda *names: (rename(*names), fail()))

    assert file.publish(sync=False)
    assert os.listdir(tmp_path / "finished/0-999") == ["0"]
