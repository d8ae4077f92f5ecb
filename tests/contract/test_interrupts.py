"""Ctrl-C anywhere: nothing hangs, no job stays, and the executor is of use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.contract.executors import PATIENCE, RunScript, ours
from tests.contract.interrupts import OPERATIONS, interrupt
from tests.waiting import assert_soon

#: Which lines are interrupted, of 30 to 600; `interrupts.py` does it at each of them.
_SAMPLE = [2, 47]
_SAMPLE_ON_SLURM = [2, 61]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "kind",
    ["local", "pool", pytest.param("slurm", marks=pytest.mark.cluster)],
    indirect=True,
    scope="session",
)
def test_interrupt_at_a_line_of_ours(
    kind: str, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Of each operation; at the first of the lines at least."""
    if kind == "slurm":  # so that the check for forgotten jobs applies
        request.getfixturevalue("slurm_cluster")
    sample = _SAMPLE_ON_SLURM if kind == "slurm" else _SAMPLE

    lines = [interrupt(kind, tmp_path, name, at) for at in sample]

    assert lines[0] is not None


_SLEEPERS = """
import os, signal, threading, time
from pathlib import Path
from executors import make_executor

def sleep(name):
    Path(name).write_text(str(os.getpid()))
    time.sleep(600)

def interrupt(*names):
    while not all(Path(name).exists() for name in names):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

"""


def _assert_gone(directory: Path) -> None:
    """See that the processes of the calls have ended, whatever has ended them."""
    pids = [int(path.read_text()) for path in directory.glob("*.pid")]
    assert pids

    def is_gone(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    assert_soon(lambda: all(map(is_gone, pids)), PATIENCE)


@pytest.mark.skipif(
    (3, 12, 0) <= sys.version_info[:3] <= (3, 12, 1),
    reason="CPython cannot start threads at exit: needs 3.12.2 or later",
)
@ours
def test_ctrl_c_while_the_program_waits_for_its_calls(
    run_script: RunScript, tmp_path: Path
) -> None:
    """At the end of a script without `with`: the calls are cancelled."""
    ended = run_script(
        _SLEEPERS
        + """
if __name__ == "__main__":
    executor = make_executor()
    executor.submit(sleep, "a.pid")
    executor.submit(sleep, "b.pid")
    threading.Thread(target=interrupt, args=["a.pid"], daemon=True).start()
"""
    )

    assert "KeyboardInterrupt" in ended.stderr
    _assert_gone(tmp_path)


@ours
def test_ctrl_c_that_ends_a_program_without_with(
    run_script: RunScript, tmp_path: Path
) -> None:
    """As at the end of a `with` block."""
    ended = run_script(
        _SLEEPERS
        + """
if __name__ == "__main__":
    executor = make_executor()
    future = executor.submit(sleep, "a.pid")
    threading.Thread(target=interrupt, args=["a.pid"], daemon=True).start()
    future.result()
"""
    )

    assert "KeyboardInterrupt" in ended.stderr
    _assert_gone(tmp_path)


@ours
def test_second_ctrl_c_while_calls_are_cancelled(
    run_script: RunScript, tmp_path: Path
) -> None:
    """The program ends no later, and nothing is left."""
    ended = run_script(
        _SLEEPERS
        + """
if __name__ == "__main__":
    threading.Thread(target=interrupt, args=["a.pid"], daemon=True).start()
    try:
        with make_executor(1) as executor:
            futures = [executor.submit(sleep, f"{c}.pid") for c in "abcdefgh"]
            try:
                futures[0].result()
            finally:
                threading.Thread(target=interrupt, daemon=True).start()
    except KeyboardInterrupt:
        print("interrupted")
"""
    )

    assert ended.stdout in {"interrupted\n", ""}
    _assert_gone(tmp_path)
