"""Runs the calls of one job on the compute node.

    python start.py SUBMISSION INDEX GRACE

The modules of this folder lie in each run directory, compiled into one file, and
start.py lets `main` run. They use the standard library alone, and as little of it as
they can: start-up is paid once for each job (`benchmarks/worker_start.py`), and pickle,
signal or contextlib would double it.
"""

from __future__ import annotations

import os
import sys

from . import needs, patience, state, streams
from .calls_file import CallsFile
from .formats import (
    EXCEPTION,
    EXIT_PATIENCE,
    INITIALIZER_FAILED,
    NOT_BEGUN,
    NOT_READ,
    NOT_WRITTEN,
    VALUE,
    block_of,
    leave_mark,
)
from .modules import enter_context, enter_directory, give_calls_a_main
from .outcomes import OutcomesFile
from .patience import insist
from .runner import NotBegun, append_exception, run_call
from .usage import node_name
from .values import dump

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import NoReturn

#: What the job leaves, once it has begun.
_outcomes: OutcomesFile | None = None


def _read_stat(process: int) -> list[bytes]:
    """Return what proc(5) tells of a process, from its state on; nothing if unknown."""
    try:
        file = os.open(f"/proc/{process}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(file, 4096).rpartition(b")")[2].split()
    except OSError:
        return []
    finally:
        os.close(file)


#: The script, and slurmstepd above it.
_script = os.getppid()
_stepd = int((_read_stat(_script)[1:2] or [b"0"])[0])
_knows_stepd = bool(_read_stat(_stepd))


def _has_lost_slurm() -> bool:
    """Whether slurmstepd has died, or is about to: nobody tells Slurm of our end."""
    if not _knows_stepd:
        return False
    stat = _read_stat(_stepd)
    if os.getppid() != _script or not stat:
        return True
    flags, pending = int(stat[6]), int(stat[28])
    is_killed = pending & 1 << 8  # SIGKILL
    return bool(stat[0] in {b"Z", b"X"} or flags & 4 or is_killed)  # PF_EXITING


def main(submission: str, index: str, grace: str = "60") -> int:
    """Run all calls of the job; return the exit code of the job.

    Args:
        submission: the directory of it.
        index: of the job.
        grace: seconds to wait for the file system.
    """
    global _outcomes  # noqa: PLW0603  (one process, one job)
    patience.grace = float(grace)
    streams.restore_interrupts()
    place = f"{block_of(int(index))}/{index}"
    attempt = os.environ.get("SLURM_RESTART_COUNT", "0")
    died = f"{submission}/finished/{place}.died"
    failing = NOT_READ
    try:
        if not _make_directory(f"{submission}/jobs/{place}") and os.path.exists(
            f"{submission}/finished/{place}"
        ):
            return 0  # all has been done
        _enter_job_directory(f"{submission}/jobs/{place}", attempt)
        name_of_attempt = f"{attempt}-{os.uname().nodename}-{os.getpid()}"
        _outcomes = outcomes = OutcomesFile(submission, int(index), name_of_attempt)
        if attempt != "0":
            outcomes.forget_earlier()
        calls = CallsFile(f"{submission}/calls.pkl")
        enter_context(calls.context)
        state.begin(exported=calls.context["exported"])
        try:
            enter_directory(calls.context["cwd"], calls.context["real_cwd"])
        except OSError as error:
            outcomes.drop()
            leave_mark(died, f"1 {attempt} {_cannot_enter(error)}")
            return 1
        give_calls_a_main(calls.context.get("script"))
        needs.begin()
        name = f"{os.path.basename(submission)}-{index}"
        entries = list(calls.entries(int(index)))
        outcomes.size = len(entries)
        failing = NOT_WRITTEN
        failed = _run_calls(calls, entries, outcomes, name)
        calls.close()
        needs.end()
        lost = _has_lost_slurm()
        outcomes.lingers = lost or not _left_nothing(outcomes.descriptor)
        return 0 if outcomes.publish(sync=True) and not failed else 1
    except OSError as error:
        _leave_reason(died, attempt, failing, error)
        return 1


def _leave_reason(path: str, attempt: str, failed: int, error: OSError) -> None:
    """Say why the job ends without outcomes: a link has room where no file has."""
    try:
        leave_mark(path, f"1 {attempt} {error.errno or 0} {failed}")
        print(f"slurm_futures: the files of the run fail: {error}", file=sys.stderr)
    except OSError:
        pass  # the script says at least that the job has died


def _cannot_enter(error: OSError) -> str:
    """Say why no call of this job may begin: its files would be elsewhere."""
    return (
        f"Node {node_name()} cannot enter the directory in which the call was "
        f"submitted, {error.filename} ({error.strerror}).\nSubmit it in a directory "
        "that the nodes share: call os.chdir() before."
    )


def _make_directory(path: str) -> bool:
    """Make the job directory; return False if an earlier attempt has made it."""
    try:
        insist(os.mkdir, path)
    except FileExistsError:
        return False
    return True


def _enter_job_directory(directory: str, attempt: str) -> None:
    """Let what is printed from now on go to the job directory."""
    streams.enter(directory)
    job_id = os.environ.get("SLURM_JOB_ID", "0")
    insist(leave_mark, f"{directory}/started", f"{node_name()} {job_id} {attempt}")


def _run_calls(
    calls: CallsFile,
    entries: list[tuple[int, ...]],
    outcomes: OutcomesFile,
    name: str,
) -> bool:
    """Run the calls one after another; return whether any of them failed."""
    initializer = calls.context["initializer"]
    if initializer is not None:
        try:
            state.enter(calls.load_state())
            calls.run_initializer(initializer)
            streams.reopen()
        except BaseException as error:  # noqa: BLE001  (SystemExit counts as well)
            append_exception(outcomes, 0, INITIALIZER_FAILED, error)
            return True
    failed = False
    for position, entry in enumerate(entries):
        if position and (needs.damaged or not outcomes.are_wanted()):
            outcomes.append(position, NOT_BEGUN, b"")
            return True  # the others run in another job
        if calls.is_pool_worker(entry):
            return _serve_pool(calls, entry, outcomes, name)
        try:
            failed |= run_call(calls, entry, position, outcomes)
        except NotBegun as error:
            if not position:
                append_exception(outcomes, 0, EXCEPTION, error.__cause__ or error)
            else:  # what was read before was well: it may be so elsewhere
                outcomes.append(position, NOT_BEGUN, b"")
            return True
    return failed


def _serve_pool(
    calls: CallsFile,
    entry: tuple[int, ...],
    outcomes: OutcomesFile,
    name: str,
) -> bool:
    """Be a worker of a pool, and keep how that ended; return whether it failed."""
    from . import pool_worker

    try:
        number = int(name.rpartition("-")[2])
        (root, *settings), _ = calls.load_arguments(entry)
        count = pool_worker.PoolWorker(root, name, number, *settings).serve()
        outcomes.append(0, VALUE, dump(count))
    except BaseException as error:  # noqa: BLE001  (as that of a call)
        append_exception(outcomes, 0, EXCEPTION, error)
        return True
    return False


def limit_end() -> None:
    """See that this process ends soon, whatever its calls have left behind.

    The alarm is the kernel's: it comes also where no thread of Python can run.
    """
    import _signal  # type: ignore[import-not-found]  # signal itself imports enum

    if _lingers():
        import faulthandler  # says on stderr what each thread is doing then

        faulthandler.dump_traceback_later(EXIT_PATIENCE - 1, file=2)
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGALRM])
    _signal.alarm(EXIT_PATIENCE)


def leave(exit_code: int) -> NoReturn:
    """End the process, at once where nobody would notice: that spares 3 ms of CPU.

    Python tears itself down before it ends. Processes that multiprocessing forks do
    without that; here it is left out only where the calls have left nothing behind.
    """
    if _outcomes is not None:
        _outcomes.left.clear()
    if not _lingers():
        streams.flush()
        os._exit(exit_code)
    try:
        _wait_for_the_rest()
    finally:
        if _outcomes is not None and not _has_lost_slurm():
            _outcomes.note_over()
    sys.exit(exit_code)


def _wait_for_the_rest() -> None:
    """Do now what Python does first when it ends."""
    if "threading" in sys.modules:
        sys.modules["threading"]._shutdown()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()


def _lingers() -> bool:
    return _outcomes is None or _outcomes.lingers


def _left_nothing(own: int) -> bool:
    """Whether there is no thread, exit function, open file or foreign library.

    A library in C may have output of its own that it writes when the process ends.

    Args:
        own: a descriptor of ours.
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
    return (
        "_ctypes" not in sys.modules
        and len(descriptors - {"0", "1", "2", str(own)}) <= 1
    )
