"""What a call may do to the process that it runs in: its value arrives all the same.

And what it has opened stays its own, with nothing of ours in it.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tests.contract.executors import PATIENCE, MakeOurs
from tests.waiting import assert_soon

pytestmark = pytest.mark.parametrize(
    "kind", ["local", "pool"], indirect=True, scope="session"
)

_MANY = 1000
#: What the calls of a process have opened.
_kept: list[IO[str]] = []


def _open_own(directory: str) -> None:
    """Open files that get the lowest numbers, write to them, and leave them open."""
    for number in range(4):
        own = Path(directory, f"{os.getpid()}-{number}")
        _kept.append(own.open("w"))
        _kept[-1].write("mine")


def close_all_and_open(directory: str) -> None:
    """Do as a daemon does that begins."""
    os.closerange(3, _MANY)
    _kept.clear()
    _open_own(directory)


def close_even_the_standard_ones(directory: str) -> None:
    """The same with all of them."""
    os.closerange(0, _MANY)
    _kept.clear()
    _open_own(directory)


def put_own_in_the_place_of_all(directory: str) -> None:
    """Let every number that is in use stand for another file."""
    with Path(directory, f"{os.getpid()}-0").open("w") as own:
        own.write("mine")
        own.flush()
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                os.dup2(own.fileno(), int(name))


def forbid_all_by_umask(directory: str) -> None:
    """Leave a umask with which new files can be read by nobody."""
    os.umask(0o777)


def move_away(directory: str) -> None:
    """Change the directory."""
    os.chdir("/")


def allow_no_files_of_any_size(directory: str) -> None:
    """Limit the size of files."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))


def be_killed_by_large_files(directory: str) -> None:
    """The same, and let the signal kill that Python has ignored."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    allow_no_files_of_any_size(directory)


def allow_no_descriptors(directory: str) -> None:
    """Limit the number of open files to fewer than there are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))


def do(action: Callable[[str], None], directory: str, value: str) -> str:
    """Be the call."""
    action(directory)
    return value


ACTIONS = [
    close_all_and_open,
    close_even_the_standard_ones,
    put_own_in_the_place_of_all,
    forbid_all_by_umask,
    move_away,
    allow_no_files_of_any_size,
    be_killed_by_large_files,
    allow_no_descriptors,
]


# Python would tell of files that calls leave open, in what is stderr for it.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_call_may_do_anything_to_its_process(
    make_ours: MakeOurs, tmp_path: Path, action: Callable[[str], None]
) -> None:
    """Twice, one after the other, and with more calls in the same job."""
    executor = make_ours(1, grace=5)
    own = tmp_path / "own"
    own.mkdir()
    values = [str(each) * 100 for each in range(4)]
    arguments = [action] * 4, [str(own)] * 4, values

    results = executor.map(do, *arguments, chunksize=2, timeout=PATIENCE)

    assert list(results) == values
    executor.shutdown()
    # Python writes what it holds back when the process ends.
    assert_soon(lambda: {path.read_text() for path in own.iterdir()} <= {"mine"})


def use_up_all_descriptors() -> None:
    """Open files until the system refuses."""
    while True:
        _kept.append(Path(os.devnull).open())  # noqa: SIM115  (it stays open)


def test_a_call_without_descriptors_raises_what_it_raised(make_ours: MakeOurs) -> None:
    """With the words of the system, though nothing can be imported to tell more."""
    executor = make_ours(1, grace=5)

    error = executor.submit(use_up_all_descriptors).exception(PATIENCE)

    assert isinstance(error, OSError)
    assert "Too many open files" in str(error)
