"""The files of a pool, from the client's side."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from slurm_futures.node.formats import block_of
from slurm_futures.runs.queue import PoolDirectory


@pytest.fixture
def directory(tmp_path: Path) -> PoolDirectory:
    """Give an empty queue."""
    directory = PoolDirectory(tmp_path / "pool")
    directory.create()
    return directory


def begin(directory: PoolDirectory, number: int, owner: str = "0001-0") -> Path:
    """Let a worker take a call; return where its outcomes go."""
    block = block_of(number)
    (directory.path / "claims" / block / str(number)).symlink_to(owner)
    path = directory.path / "finished" / block / f"{number}.{owner}"
    path.write_bytes(b"")
    return path


def test_only_the_user_can_look_into_a_pool(directory: PoolDirectory) -> None:
    """Whoever could write there could run code here."""
    assert directory.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("numbers", "blocks"),
    [
        (range(1), {"0-999"}),
        (range(999, 1001), {"0-999", "1000-1999"}),
        (range(1500, 4000), {"1000-1999", "2000-2999", "3000-3999"}),
    ],
    ids=["first", "border", "several"],
)
def test_blocks_are_made_for_new_calls(
    directory: PoolDirectory, numbers: range, blocks: set[str]
) -> None:
    """Those that are there already are left alone."""
    directory.add_blocks(numbers)
    directory.add_blocks(numbers)

    assert set(os.listdir(directory.path / "claims")) == blocks
    assert set(os.listdir(directory.path / "finished")) == blocks


def test_a_batch_is_named_after_its_calls(directory: PoolDirectory) -> None:
    """First number and how many, which is all that a worker needs to know."""
    assert directory.batch(range(64, 70)) == directory.path / "queue" / "64-6"


def test_one_of_client_and_workers_has_a_call(directory: PoolDirectory) -> None:
    """Whoever is there first."""
    directory.add_blocks(range(3))
    begin(directory, 0)

    assert not directory.claim(0)
    assert directory.claim(1)
    assert not directory.claim(1)
    assert directory.owner(0) == "0001-0"
    assert directory.owner(1) is None, "it is no worker"
    assert directory.owner(2) is None
    assert directory.list_claims(["0-999"]) == {0, 1}


def test_calls_that_still_run_are_not_listed_as_finished(
    directory: PoolDirectory,
) -> None:
    """Their outcomes have the name of their worker."""
    directory.add_blocks(range(2))
    begin(directory, 0)
    begin(directory, 1).rename(directory.path / "finished" / "0-999" / "1")

    assert directory.list_finished(["0-999"]) == {1}


def test_a_running_call_can_be_taken_back(directory: PoolDirectory) -> None:
    """Its worker cannot publish any more."""
    directory.add_blocks(range(1))
    own = begin(directory, 0)

    assert directory.withdraw(0, "0001-0")
    assert not own.exists()
    assert directory.list_finished(["0-999"]) == set()


def test_a_call_that_is_over_cannot_be_taken_back(directory: PoolDirectory) -> None:
    """Its worker runs another one by now."""
    directory.add_blocks(range(1))
    begin(directory, 0).rename(directory.path / "finished" / "0-999" / "0")

    assert not directory.withdraw(0, "0001-0")


def test_a_directory_that_is_gone_cannot_be_listed(directory: PoolDirectory) -> None:
    """An error, not "nothing is finished"."""
    with pytest.raises(FileNotFoundError):
        directory.list_finished(["0-999"])


@pytest.mark.parametrize("remove", ["block", "pool"])
def test_no_call_can_begin_again_while_it_is_deleted(
    directory: PoolDirectory, monkeypatch: pytest.MonkeyPatch, remove: str
) -> None:
    """A worker that comes late finds claims that are gone already."""
    directory.add_blocks(range(1000))
    begin(directory, 7).rename(directory.path / "finished/0-999/7")
    rmtree, tried = shutil.rmtree, []

    def begin_midway(path: Path, *, ignore_errors: bool = False) -> None:
        if path.name != "finished" and path.parent.name != "finished":
            (directory.path / "claims/0-999/7").unlink()
            with pytest.raises(FileNotFoundError):
                begin(directory, 7)
            tried.append(path)
        rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", begin_midway)
    if remove == "block":
        directory.remove_block("0-999")
    else:
        directory.remove()

    assert len(tried) == 1


def test_claims_stay_while_there_is_a_place_for_outcomes(
    directory: PoolDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that somebody has open keeps its directory alive (NFS)."""
    directory.add_blocks(range(1000))
    begin(directory, 7)
    rmtree = shutil.rmtree

    def keep_finished(path: Path, *, ignore_errors: bool = False) -> None:
        if path.parent.name != "finished":
            rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", keep_finished)
    directory.remove_block("0-999")

    assert directory.list_claims(["0-999"]) == {7}


def test_removal_is_quiet(directory: PoolDirectory) -> None:
    """Whatever is gone already, or was never there."""
    directory.add_blocks(range(2000))
    directory.remove_batch(range(5))
    directory.remove_block("0-999")
    directory.remove_block("0-999")
    assert os.listdir(directory.path / "claims") == ["1000-1999"]

    directory.remove()
    directory.remove()
    directory.close()
    assert not directory.path.exists()


def _fill(directory: PoolDirectory) -> None:
    """Let there be 1,500 calls in batches of 50, all of them over."""
    directory.add_blocks(range(1500))
    for first in range(0, 1500, 50):
        directory.batch(range(first, first + 50)).touch()
    for number in range(1500):
        directory.claim(number)
        directory.finished.file(number).touch()
    directory.close()


def _clean(directory: PoolDirectory) -> None:
    for first in range(0, 1500, 50):
        directory.remove_batch(range(first, first + 50))
    directory.remove_block("0-999")


def test_what_tells_of_failures_stays(tmp_path: Path) -> None:
    """The outcomes, and the calls, which are in a batch; workers do not find them."""
    directory = PoolDirectory(tmp_path / "pool-1", "failed")
    directory.create()
    _fill(directory)
    directory.note_failure(7)
    directory.note_failure(1400)

    _clean(directory)
    directory.keep_failed()

    left = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert {str(path.relative_to(tmp_path)) for path in left} == {
        *("pool-1-failed/queue/0-50", "pool-1-failed/queue/1400-50"),
        "pool-1-failed/finished/0-999/7",
        "pool-1-failed/finished/1000-1999/1400",
    }


@pytest.mark.parametrize(("keep", "left"), [("always", 1530), ("never", 0)])
def test_all_or_nothing_stays_as_the_user_wants(
    tmp_path: Path, keep: str, left: int
) -> None:
    """Whatever has failed; also while the queue is in use."""
    directory = PoolDirectory(tmp_path / "pool-1", keep)
    directory.create()
    _fill(directory)
    directory.note_failure(7)

    _clean(directory)

    files = [*directory.path.glob("queue/*-*"), *directory.path.glob("finished/*/*")]
    assert len(files) == (left or 500)
    if keep == "never":
        directory.keep_failed()
        assert list(tmp_path.iterdir()) == []


def test_a_queue_that_cannot_be_moved_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its workers may live on unseen."""
    directory = PoolDirectory(tmp_path / "pool-1", "failed")
    directory.create()
    _fill(directory)
    directory.note_failure(7)

    def fail(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "rename", fail)
    directory.keep_failed()

    assert len(directory.list_claims(["0-999"])) == 1000
