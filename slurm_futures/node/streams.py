"""What a job has from its process: standard streams, and signals as they should be."""

from __future__ import annotations

import os
import sys

from .patience import insist

#: The files behind the descriptors 0, 1 and 2 of the job.
_files: tuple[str, ...] = ()


def enter(directory: str) -> None:
    """Let what is printed from now on go to files in the job directory."""
    global _files  # noqa: PLW0603  (one process, one job)
    _files = os.devnull, f"{directory}/stdout", f"{directory}/stderr"
    for descriptor in (1, 2):
        insist(_open, descriptor)
    reopen()
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # what is printed is there while the call runs
        reconfigure(line_buffering=True)


def _open(descriptor: int) -> None:
    writing = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    flags = writing if descriptor else os.O_RDONLY
    file = os.open(_files[descriptor], flags, 0o666)
    if file == descriptor:
        os.set_inheritable(file, True)
    else:
        os.dup2(file, descriptor)
        try:
            os.close(file)
        except OSError:  # it is closed all the same
            pass


def reopen() -> None:
    """Open those that a call has closed, before another file gets the number."""
    for descriptor in range(len(_files)):
        try:
            os.get_inheritable(descriptor)  # does not touch the file, as fstat may
        except OSError:
            try:
                _open(descriptor)
            except OSError:  # the next call will find it closed, as it may be used to
                return


def restore_interrupts() -> None:
    """Undo that bash lets a background process ignore SIGINT and SIGQUIT."""
    import _signal  # type: ignore[import-not-found]  # signal itself imports enum

    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    _signal.signal(_signal.SIGQUIT, _signal.SIG_DFL)


def flush() -> None:
    """Let all that was printed be in the files."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S110
            pass  # the call may have closed or replaced it
