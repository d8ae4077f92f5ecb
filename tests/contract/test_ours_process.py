"""What a call may do to the process that it runs in: its value arrives all the same.

And what it has opened stays its own, with nothing of ours in it.
"""

from __future__ import annotations

import builtins
import os
import resource
import signal
import sys
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


def forget_all_modules(directory: str) -> None:
    """Let no module be loaded."""
    sys.modules.clear()


def put_other_modules_in_their_place(directory: str) -> None:
    """Let `sys.modules` be another dict."""
    sys.modules = {}


def look_for_modules_nowhere(directory: str) -> None:
    """Empty the path, and forget what has been found in it."""
    sys.path.clear()
    forget_all_modules(directory)


def find_no_modules(directory: str) -> None:
    """Take away all that finds modules."""
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


def forbid_imports(directory: str) -> None:
    """Let every import fail."""
    builtins.__import__ = None  # type: ignore[assignment]


def move_the_root(directory: str) -> None:
    """Let the root be another directory."""
    os.chroot(directory)


def do(action: Callable[[str], None], directory: str, value: str) -> str:
    """Be the call."""
    action(directory)
    return value


def fail_after(action: Callable[[str], None], directory: str) -> None:
    """Be a call that fails."""
    action(directory)
    raise LookupError(directory)


_NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
#: What the next call could not be loaded with, in the same process.
TAKING_AWAY = [
    forget_all_modules,
    put_other_modules_in_their_place,
    look_for_modules_nowhere,
    find_no_modules,
    forbid_imports,
    pytest.param(move_the_root, marks=_NEEDS_ROOT),
]
ACTIONS = [
    *TAKING_AWAY,
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


@pytest.mark.parametrize("action", TAKING_AWAY)
def test_a_call_that_takes_away_raises_what_it_raised(
    make_ours: MakeOurs, tmp_path: Path, action: Callable[[str], None]
) -> None:
    """With its traceback; and a call after it runs."""
    executor = make_ours(1, grace=5)
    failing = executor.submit(fail_after, action, str(tmp_path))
    after = executor.submit(do, move_away, "", "fine")

    error = failing.exception(PATIENCE)
    assert repr(error) == repr(LookupError(str(tmp_path)))
    assert "in fail_after" in str(error and error.__cause__)
    assert after.result(PATIENCE) == "fine"


def move_the_root_for_good(directory: str) -> None:
    """Leave no way back."""
    os.closerange(3, _MANY)
    os.chroot(directory)


@_NEEDS_ROOT
def test_error_of_a_call_that_moves_the_root_for_good_says_so(
    make_ours: MakeOurs, tmp_path: Path
) -> None:
    """Its outcome cannot be written; the calls behind it run elsewhere."""
    executor = make_ours(1, grace=5)
    moved = executor.submit(do, move_the_root_for_good, str(tmp_path), "lost")
    after = executor.submit(do, move_away, "", "fine")

    assert "changed the root directory (os.chroot)" in str(moved.exception(PATIENCE))
    assert after.result(PATIENCE) == "fine"


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
