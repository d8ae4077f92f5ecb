"""Files that appear whole, and files that need not be there."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import pkgutil
import shutil
import stat
from typing import TYPE_CHECKING, Any

from slurm_futures import node
from slurm_futures.errors import SlurmFuturesError
from slurm_futures.node.formats import WRITABLE_BY_OTHERS, write_all

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Of all files of a run. A run of another version is not read.
FORMAT = 1

#: Bytes that a message quotes from the end of a file.
_TAIL = 4096


logger = logging.getLogger("slurm_futures")


class ForeignFileError(PermissionError):
    """A file that would be unpickled may be of somebody else."""


def write_file(path: Path, content: bytes) -> None:
    """Let a complete file appear under its name, in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)


def read_ours(name: str) -> bytes:
    """Return a file of the room `node`, also where the package lies in an archive.

    Raises:
        OSError: there is none of this name.
    """
    content = pkgutil.get_data(node.__name__, name)
    assert content is not None, "only odd loaders of modules cannot read files"
    return content


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts for people and for other programs, with the version of the format."""
    content = json.dumps({"format": FORMAT, **facts}, indent=2, default=str)
    write_file(path, content.encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read facts that a program has written.

    Raises:
        OSError: they cannot be read now, or others may have written them.
        SlurmFuturesError: they are in another format.
    """
    try:
        facts: dict[str, Any] = json.loads(read_own(path))
        version = facts["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SlurmFuturesError(
            f"{path} says nothing of a format, so its run cannot be read.\nIt is of an "
            "old slurm_futures, or was damaged."
        ) from error
    if version != FORMAT:
        raise SlurmFuturesError(
            f"{path} has the format {version!r}, and this slurm_futures reads {FORMAT}."
            "\nOpen the run with the version of slurm_futures that has written it: "
            f"{facts.get('slurm_futures', 'its run.json names it')}."
        )
    return facts


def is_there(path: Path) -> bool:
    """Whether a file or directory exists.

    Raises:
        OSError: nobody can tell now. (`Path.exists` and its like say no then, or raise,
            as the version of Python has it.)
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_ours_alone(path: Path) -> bool:
    """Whether a file or directory exists, is our own, and nobody else may write to it.

    Raises:
        OSError: nobody can tell now.
    """
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    is_ours = status.st_uid == os.geteuid()
    return is_ours and not status.st_mode & WRITABLE_BY_OTHERS


def read_text(path: Path) -> str:
    """Return the text of a file that a job may not have made: then it is empty."""
    try:
        return path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def read_tail(path: Path) -> str:
    """Return the last lines of a file, or nothing where it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        return file.read().decode("utf-8", errors="replace").rstrip()
    return ""


def remove_tree(path: Path) -> None:
    """Delete a directory and what it holds, as far as the file system lets us now."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path)
        return
    try:  # once more, since most errors pass, and then whatever can be deleted
        shutil.rmtree(path, ignore_errors=True)
    except OSError as error:  # not all of them are ignored, those of fstat are not
        logger.info("%s stays as it is: %s", path, error)


def printable(text: str) -> str:
    """Return what a mark says as lines that any program can print."""
    lines = os.fsencode(text).decode("utf-8", errors="replace").splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


def _find_stranger(status: os.stat_result) -> str | None:
    """Say why a file may not be what we have written."""
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}"
    if stat.S_ISDIR(status.st_mode):
        return None  # reading it fails
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_mode & WRITABLE_BY_OTHERS:
        return f"can be written by others (mode {status.st_mode & 0o777:o})"
    return None


def read_own(path: Path) -> bytes:
    """Read a file that will be unpickled: it must be our own.

    Raises:
        ForeignFileError: others may have written it.
        OSError: it cannot be read now, or is a directory.
    """
    # Once for each job: open() would ask three times what the file is.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ForeignFileError(f"{path} is a symbolic link") from error
        raise
    try:
        status = os.fstat(descriptor)
        problem = _find_stranger(status)
        if problem is not None:
            raise ForeignFileError(
                f"{path} {problem}; only your own files are unpickled"
            )
        content = b""
        while part := os.read(descriptor, max(status.st_size, 1)):
            content = content + part if content else part
        return content
    finally:
        os.close(descriptor)
