"""What calls do besides computing: print, start threads and programs, make a mess."""

import contextlib
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from tests.contract.gate import Gate


def print_and_log() -> str:
    """Write to both streams by every road."""
    print("printed")
    print("printed to stderr", file=sys.stderr)
    logging.getLogger("of.the.call").warning("logged")
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # a call has the filters of pytest
        warnings.warn("warned", stacklevel=1)
    os.write(1, b"written\n")
    subprocess.run(["echo", "echoed"], check=True)
    return "done"


def close_streams() -> str:
    """Close everything that a program can print to."""
    sys.stdout.close()
    sys.stderr.close()
    os.close(1)
    os.close(2)
    return "done"


def close_standard_files() -> str:
    """Close stdout and stderr as a daemon does."""
    for descriptor in (1, 2):
        os.close(descriptor)
    return "closed"


def write_to_standard_files() -> str:
    """Write as a library in C does, if it can."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"written\n")
    return "written"


def read_stdin() -> str:
    """Read all of stdin, which must have an end."""
    return sys.stdin.read()


def change_surroundings(directory: Path) -> str:
    """Leave nothing in this process as it was."""
    os.chdir(directory)
    directory.rmdir()
    os.environ.clear()
    os.umask(0o777)
    sys.path.clear()
    sys.argv.clear()
    return "done"


def see_surroundings() -> tuple[str, bool, bool]:
    """Return working directory, and whether environment and search path are there."""
    return str(Path.cwd()), "PATH" in os.environ, bool(sys.path)


def sum_in_threads() -> int:
    """Start threads and wait for them."""
    results: list[int] = []
    threads = [
        threading.Thread(target=results.append, args=[number]) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(results)


def leave_thread_behind(gate: Gate) -> str:
    """Start a thread that is not a daemon, and do not wait for it."""
    threading.Thread(target=gate.hold, args=["thread"]).start()
    return "done"


def run_program() -> str:
    """Return what another program prints."""
    command = [sys.executable, "-c", "print(6 * 7)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def leave_program_behind() -> int:
    """Start a program that outlives the call; return its process id."""
    return subprocess.Popen(["sleep", "1000"]).pid


def use_multiprocessing(start_method: str) -> list[int]:
    """Compute in a pool of processes inside the call."""
    warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, 3.12
    context = multiprocessing.get_context(start_method)
    with context.Pool(2) as pool:
        return pool.map(abs, [-1, -2, -3])


def fork_and_return() -> str:
    """Fork, and let the child leave by `return` as the parent does."""
    warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, 3.12
    pid = os.fork()
    if pid == 0:
        return "of the child"
    os.waitpid(pid, 0)
    return "of the parent"


def print_megabytes(count: int) -> int:
    """Print so many MB."""
    line = "x" * 999
    for _ in range(count * 1000):
        print(line)
    return count


def use_nested_executor(kind: str, directory: Path) -> list[int]:
    """Use an executor of ours inside the call."""
    # Here, so that other calls do not pay for the import.
    from slurm_futures import SlurmExecutor

    scheduler: Any = kind
    with SlurmExecutor(directory=directory, scheduler=scheduler) as executor:
        return list(executor.map(abs, [-1, -2]))


def work_on(path: Path) -> None:
    """Return while a thread, not a daemon, still has something to do."""

    def write() -> None:
        time.sleep(1)
        path.touch()

    threading.Thread(target=write).start()
