"""Runs the calls of one job on the compute node.

    python start.py SUBMISSION INDEX

The modules of this folder lie in each run directory, compiled into one file, and
start.py lets `main` run. They use the standard library alone, and as little of it as
they can: start-up is paid once for each job (`benchmarks/worker_start.py`), and pickle,
signal or contextlib would double it.
"""

from __future__ import annotations

import os
import sys

from . import streams
from .calls_file import CallsFile
from .formats import (
    EXCEPTION,
    GIVEN_UP,
    INITIALIZER_FAILED,
    NOT_BEGUN,
    VALUE,
    block_of,
    leave_mark,
    pack_outcome,
    write_all,
)
from .modules import enter_context, give_calls_a_main
from .runner import Look, append_exception, run_call
from .values import dump

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import NoReturn


class OutcomesFile:
    """Where the outcomes of one attempt at a job go, one after another."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._final = f"{directory}/outcomes"
        self._look = Look()
        attempt = os.environ.get("SLURM_RESTART_COUNT", "0")
        host = os.uname().nodename
        self._own = f"{self._final}.{attempt}-{host}-{os.getpid()}"
        self._pid = os.getpid()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(self._own, flags, 0o600)

    def append(self, position: int, kind: int, payload: bytes) -> None:
        """Write the outcome of one call."""
        if os.getpid() != self._pid:
            os._exit(0)  # the call forked, and its child came back here as well
        write_all(self._descriptor, pack_outcome(position, kind, payload))

    def are_wanted(self) -> bool:
        """Whether the client still waits for this job; Slurm may have lost its node."""
        # Listed: NFS may go on for long to say of a name that it is not there.
        if not self._look.is_due():
            return True
        try:
            return GIVEN_UP not in os.listdir(self._directory)
        except FileNotFoundError:
            return False
        except OSError:  # the next look will tell
            return True

    def publish(self) -> None:
        """Give the complete file its final name; the later of two attempts stays."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        os.rename(self._own, self._final)


def main(submission: str, index: str) -> int:
    """Run all calls of the job; return the exit code of the job."""
    streams.restore_interrupts()
    block = block_of(int(index))
    directory = f"{submission}/jobs/{block}/{index}"
    _enter_job_directory(directory)
    outcomes = OutcomesFile(directory)
    calls = CallsFile(f"{submission}/calls.pkl")
    enter_context(calls.context)
    give_calls_a_main()
    name = f"{os.path.basename(submission)}-{index}"
    failed = _run_calls(calls, int(index), outcomes, name)
    calls.close()
    outcomes.publish()
    exit_code = 1 if failed else 0
    leave_mark(f"{submission}/finished/{block}/{index}", str(exit_code))
    return exit_code


def _enter_job_directory(directory: str) -> None:
    """Make the job directory, and let what is printed from now on go there."""
    try:
        os.mkdir(directory)
    except FileExistsError:  # an earlier attempt has made it
        pass
    streams.enter(directory)
    host = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
    job_id = os.environ.get("SLURM_JOB_ID", "0")
    started = f"{host} {job_id} {os.environ.get('SLURM_RESTART_COUNT', '0')}"
    leave_mark(f"{directory}/started", started)


def _run_calls(calls: CallsFile, job: int, outcomes: OutcomesFile, name: str) -> bool:
    """Run the calls one after another; return whether any of them failed."""
    initializer = calls.context["initializer"]
    if initializer is not None:
        try:
            calls.run_initializer(initializer)
            streams.reopen()
        except BaseException as error:  # noqa: BLE001  (SystemExit counts as well)
            append_exception(outcomes, 0, INITIALIZER_FAILED, error)
            return True
    failed = False
    for position, entry in enumerate(calls.entries(job)):
        if position and not outcomes.are_wanted():
            outcomes.append(position, NOT_BEGUN, b"")
            return True  # the others run in another job
        if calls.is_pool_worker(entry):
            return _serve_pool(calls, entry, outcomes, name, job)
        failed |= run_call(calls, entry, position, outcomes)
    return failed


def _serve_pool(
    calls: CallsFile,
    entry: tuple[int, ...],
    outcomes: OutcomesFile,
    name: str,
    number: int,
) -> bool:
    """Be a worker of a pool, and keep how that ended; return whether it failed."""
    from . import pool_worker

    try:
        (root, *settings), _ = calls.load_arguments(entry)
        count = pool_worker.PoolWorker(root, name, number, *settings).serve()
        outcomes.append(0, VALUE, dump(count))
    except BaseException as error:  # noqa: BLE001  (as that of a call)
        append_exception(outcomes, 0, EXCEPTION, error)
        return True
    return False


def leave(exit_code: int) -> NoReturn:
    """End the process, at once where nobody would notice: that spares 3 ms of CPU.

    Python tears itself down before it ends. Processes that multiprocessing forks do
    without that; here it is left out only where the calls have left nothing behind.
    """
    if _left_nothing():
        streams.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


def _left_nothing() -> bool:
    """Whether there is no thread, exit function, open file or foreign library.

    A library in C may have output of its own that it writes when the process ends.
    """
    import _thread

    atexit = sys.modules.get("atexit")
    if _thread._count() or (atexit is not None and atexit._ncallbacks()):
        return False
    ours = f"{os.path.dirname(os.__file__)}/lib-dynload/"
    for module in list(sys.modules.values()):
        origin = getattr(getattr(module, "__spec__", None), "origin", None) or ""
        if origin.endswith(".so") and not origin.startswith(ours):
            return False
    try:
        descriptors = set(os.listdir("/proc/self/fd"))
    except OSError:
        return False
    # One is that of the listing.
    return "_ctypes" not in sys.modules and len(descriptors - {"0", "1", "2"}) <= 1
