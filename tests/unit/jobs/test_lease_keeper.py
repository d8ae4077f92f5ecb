"""The thread that keeps the lease of a run."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_futures.errors import RunInUse
from slurm_futures.jobs import lease_keeper
from slurm_futures.jobs.lease_keeper import LeaseKeeper
from slurm_futures.jobs.threads import Courier, ThreadGroup
from slurm_futures.runs.lease import Lease, LeaseTimes
from slurm_futures.runs.owner import find_last, read_owner
from tests.unit.runs.leases import on_host
from tests.waiting import assert_soon

LIVELY = LeaseTimes(beat=0.01, look=0, looks=1, grace=0)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[LeaseKeeper]:
    """Give one that beats often."""
    keeper = LeaseKeeper(Lease.take(tmp_path, LIVELY), ThreadGroup())
    assert keeper.start()
    yield keeper
    keeper.release()
    assert_soon(lambda: not keeps())


def keeps() -> bool:
    """Whether a thread keeps a lease."""
    return any(each.name == "slurm_futures-lease" for each in threading.enumerate())


def assert_beats(run: Path) -> None:
    """See that the lease gives signs of life."""
    beat = find_last(run / "owner").beat
    assert_soon(lambda: find_last(run / "owner").beat > beat + 2)


def test_lease_beats_until_it_is_given_back(
    tmp_path: Path, keeper: LeaseKeeper
) -> None:
    """Then the thread ends, and the run is free."""
    assert_beats(tmp_path)

    keeper.release()
    keeper.release()

    assert read_owner(tmp_path) is None
    assert_soon(lambda: not keeps())


def test_release_does_not_wait_for_the_next_beat(tmp_path: Path) -> None:
    """The thread is woken."""
    keeper = LeaseKeeper(Lease.take(tmp_path, LeaseTimes(beat=10_000)), ThreadGroup())
    keeper.start()
    assert_soon(lambda: find_last(tmp_path / "owner").beat == 2)

    keeper.release()

    assert_soon(lambda: not keeps())


def test_thread_ends_when_the_lease_is_lost(
    tmp_path: Path, keeper: LeaseKeeper
) -> None:
    """It says so, for those who act."""
    place = tmp_path / "owner"
    place.joinpath(str(find_last(place).number + 1)).symlink_to("somebody")

    assert_soon(lambda: not keeps())
    assert isinstance(keeper.lease.lost, RunInUse)


def test_lease_is_kept_at_the_end_of_the_program_while_there_is_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls are waited for; when they are over, a hanging program is silent."""
    group = ThreadGroup()
    gate = threading.Event()

    def work(items: list[int]) -> None:
        gate.wait(60)

    courier = Courier(work, "courier", group)
    courier.put([1])
    monkeypatch.setattr(lease_keeper, "program_ends", lambda: True)
    keeper = LeaseKeeper(Lease.take(tmp_path, LIVELY, on_host("far")), group)
    keeper.start()
    assert_beats(tmp_path)

    gate.set()

    assert_soon(lambda: not keeps())
    assert keeper.lease.lost is None
    keeper.release()


HANGS = """
import sys, threading
from pathlib import Path
from slurm_futures.jobs.lease_keeper import LeaseKeeper
from slurm_futures.jobs.threads import ThreadGroup
from slurm_futures.runs.lease import Lease, LeaseTimes
keeper = LeaseKeeper(
    Lease.take(Path(sys.argv[1]), LeaseTimes(beat=0.01)), ThreadGroup()
)
keeper.start()
beating = next(each for each in threading.enumerate() if each.daemon)
def hang():
    beating.join()
    print(beating.name, flush=True)
    sys.stdin.read()
if sys.argv[2] == "hang":
    threading.Thread(target=hang).start()
"""


def test_program_that_hangs_at_its_end_is_silent(tmp_path: Path) -> None:
    """Programs on other hosts may take its run."""
    with subprocess.Popen(
        [sys.executable, "-c", HANGS, tmp_path, "hang"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "slurm_futures-lease\n"
        assert process.poll() is None
        process.communicate(timeout=60)


def test_lease_does_not_keep_a_program_from_ending(tmp_path: Path) -> None:
    """The run is free then, though it was not given back."""
    command = [sys.executable, "-c", HANGS, str(tmp_path), "end"]
    subprocess.run(command, check=True, timeout=60)

    assert read_owner(tmp_path) is None
