"""Ctrl-C at each line that the thread of a caller executes in our package.

    for each operation of an executor, for each line:
        KeyboardInterrupt there --> the executor is of use, its end comes soon, and
                                    leaves no job and no thread

A sample of it is a test. All of it, which takes half an hour:

    python -m tests.contract.interrupts [every [name of an operation ...]]
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import slurm_futures
from slurm_futures import SlurmExecutor
from tests.contract.executors import create
from tests.waiting import assert_soon

_PACKAGE = str(Path(slurm_futures.__file__).parent)
_LIMIT = 60  #: seconds; tells a hang from a machine that is busy
_NEVER = 600  #: seconds that a call takes which must be cancelled


@dataclass(frozen=True)
class Operation:
    """What is interrupted.

    Attributes:
        act: is interrupted; gets the executor and what `prepare` has returned.
        prepare: comes before it.
        ends: whether it shuts the executor down.
    """

    act: Callable[[SlurmExecutor, Any], object]
    prepare: Callable[[SlurmExecutor], Any] = lambda _: None
    ends: bool = False


def _sleep(executor: SlurmExecutor) -> Any:
    """Submit a call that runs until it is cancelled, and wait for it to run."""
    future = executor.submit(time.sleep, _NEVER)
    assert_soon(future.running, _LIMIT)
    return future


def _submit_two(executor: SlurmExecutor) -> None:
    for number in range(2):
        executor.submit(abs, number)


def _leave_block(executor: SlurmExecutor, _: object) -> None:
    executor.__exit__(None, None, None)


def _leave_block_after_ctrl_c(executor: SlurmExecutor, _: object) -> None:
    executor.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


OPERATIONS = {
    "submit": Operation(lambda executor, _: executor.submit(abs, -1)),
    "options": Operation(lambda executor, _: executor.options().submit(abs, -1)),
    "map": Operation(lambda executor, _: executor.map(abs, range(3))),
    "map_chunks": Operation(
        lambda executor, _: list(executor.map(abs, range(3), chunksize=2))
    ),
    "map_buffersize": Operation(
        lambda executor, _: list(executor.map(abs, range(2), buffersize=1))
    ),
    "results": Operation(
        lambda _, results: list(results),
        lambda executor: executor.map(abs, range(3)),
    ),
    "close_results": Operation(
        lambda _, results: results.close(),
        lambda executor: _begun(executor.map(time.sleep, [0, _NEVER])),
    ),
    "result": Operation(
        lambda _, future: future.result(),
        lambda executor: executor.submit(abs, -1),
    ),
    "cancel_pending": Operation(
        lambda _, future: future.cancel(),
        lambda executor: executor.submit(time.sleep, _NEVER),
    ),
    "cancel_running": Operation(lambda _, future: future.cancel(), _sleep),
    "shutdown": Operation(
        lambda executor, _: executor.shutdown(), _submit_two, ends=True
    ),
    "shutdown_cancel": Operation(
        lambda executor, _: executor.shutdown(cancel_futures=True),
        _submit_two,
        ends=True,
    ),
    "exit": Operation(_leave_block, _submit_two, ends=True),
    "exit_after_ctrl_c": Operation(_leave_block_after_ctrl_c, _sleep, ends=True),
}


def _begun(results: Iterator[Any]) -> Iterator[Any]:
    next(results)
    return results


class _Interrupt:
    """Raises KeyboardInterrupt at one line of the package in this thread.

    Args:
        at: which one of those that are executed, from 1.

    Attributes:
        where: the line; None: there were not so many.
    """

    def __init__(self, at: int) -> None:
        self._left = at
        self._before = sys.gettrace()
        self.where: str | None = None

    def __enter__(self) -> _Interrupt:
        sys.settrace(self._trace)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                name = Path(frame.f_code.co_filename).relative_to(_PACKAGE)
                self.where = f"{name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._trace


def interrupt(kind: str, directory: Path, name: str, at: int) -> str | None:
    """Interrupt an operation at a line, and see that no harm is done.

    Args:
        kind: of the executor, as in `executors.create`.
        directory: for its files.
        name: of the operation.
        at: which line, from 1.

    Returns:
        The line, or None: there are not so many.
    """
    operation = OPERATIONS[name]
    executor = create(kind, directory, max_workers=2)
    assert isinstance(executor, SlurmExecutor)
    state = operation.prepare(executor)
    injection = _Interrupt(at)
    gc.collect()
    gc.disable()  # Python drops what is raised in a finalizer
    with _no_hang(name, injection), contextlib.suppress(KeyboardInterrupt), injection:
        operation.act(executor, state)
    gc.enable()
    del state
    if not operation.ends:
        with _no_hang(name, injection):
            assert executor.submit(abs, -2).result() == 2
    _end(executor, name, injection)
    return injection.where


def _end(executor: SlurmExecutor, name: str, injection: _Interrupt) -> None:
    """End the executor as a program does that has met Ctrl-C, in another thread.

    The thread that was interrupted may hold a lock, which it can take again.
    """
    ending = threading.Thread(
        target=executor.__exit__,
        args=(KeyboardInterrupt, KeyboardInterrupt(), None),
        daemon=True,
    )
    ending.start()
    ending.join(_LIMIT)
    assert not ending.is_alive(), f"{name} at {injection.where}: its end hangs"
    session = executor._session
    assert session.is_idle
    scheduler = session.scheduler

    def open_jobs() -> list[object]:
        jobs = scheduler.query().jobs.values()
        return [row for rows in jobs for row in rows if not row.state.ended]

    assert_soon(lambda: not open_jobs(), _LIMIT)
    assert_soon(
        lambda: (
            not [
                each
                for each in threading.enumerate()
                if each.name.startswith("slurm_futures") and not each.daemon
            ]
        ),
        _LIMIT,
    )


@contextlib.contextmanager
def _no_hang(name: str, injection: _Interrupt) -> Iterator[None]:
    """Raise where this thread hangs, which must be the main thread."""

    def complain(*_: object) -> None:
        raise TimeoutError(f"{name} at {injection.where}: it hangs")

    before = signal.signal(signal.SIGALRM, complain)
    timer = signal.setitimer(signal.ITIMER_REAL, _LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)


def _main() -> None:
    every = int(sys.argv[1]) if sys.argv[1:] else 1
    for kind in ("local", "pool"):
        for name in sys.argv[2:] or OPERATIONS:
            lines = set()
            began_at = time.monotonic()
            with tempfile.TemporaryDirectory() as directory:
                at = 1
                while (where := interrupt(kind, Path(directory), name, at)) is not None:
                    lines.add(where)
                    at += every
            seconds = time.monotonic() - began_at
            print(
                f"{kind:6} {name:18} {at // every:4} interrupts at {len(lines):3} "
                f"lines, {seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    _main()
