"""Lets operations of this process on files fail, as a file system does now and then."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

#: Those of `os` that name files, and those that work on descriptors. (`close` ends the
#: use of a descriptor even where it fails.)
_BY_NAME = (
    "open mkdir rmdir unlink remove rename replace link symlink readlink stat lstat"
    " listdir scandir chmod utime"
).split()
_BY_DESCRIPTOR = "read write pread pwrite fsync fstat lseek ftruncate".split()


class FailingFiles:
    """Operations below a directory fail, from a certain one on, for some time.

    Args:
        directory: where.
        first: the number of the first one that fails, from 0; None: none does.
        seconds: how long; 0: only this one.
        error: the number of the error.

    Attributes:
        operations: those that were done or have failed: their names and files.
        failed: those that have failed.
    """

    def __init__(
        self,
        directory: Path,
        first: int | None = None,
        seconds: float = 0,
        error: int = 0,
    ) -> None:
        self._directory = str(directory)
        self._first = first
        self._seconds = seconds
        self.error = error
        self._until = 0.0
        self._lock = threading.Lock()
        self.operations: list[str] = []
        self.failed: list[str] = []

    @contextlib.contextmanager
    def active(self) -> Iterator[FailingFiles]:
        """Let them fail within the block."""
        with contextlib.ExitStack() as patches:
            for name in (*_BY_NAME, *_BY_DESCRIPTOR):
                wrapped = self._wrap(name, getattr(os, name))
                patches.enter_context(mock.patch.object(os, name, wrapped))
            wrapped = self._wrap("open file", io.open)
            patches.enter_context(mock.patch.object(io, "open", wrapped))
            yield self

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            path = self._path(args[0] if args else options.get("path", "."), options)
            if path is None:
                return real(*args, **options)
            self._step(f"{name} {path.removeprefix(self._directory)}", path)
            return real(*args, **options)

        return call

    def _path(self, file: Any, options: dict[str, Any]) -> str | None:
        """Return what an operation is about, if it lies below the directory."""
        if isinstance(file, int):
            path = _name_of(file)
        else:
            path = os.fsdecode(file)
            if options.get("dir_fd") is not None:
                path = f"{_name_of(options['dir_fd'])}/{path}"
        return path if path.startswith(self._directory) else None

    def _step(self, text: str, path: str) -> None:
        with self._lock:
            number = len(self.operations)
            self.operations.append(text)
            now = time.monotonic()
            if number == self._first:
                self._until = now + self._seconds
            elif now >= self._until:
                return
            self.failed.append(text)
        raise OSError(self.error, os.strerror(self.error), path)


_readlink = os.readlink


def _name_of(descriptor: int) -> str:
    try:
        return _readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""
