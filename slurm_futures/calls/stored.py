"""A call that is read back from disk, and the future of one that is over."""

from __future__ import annotations

import contextlib
import errno
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from slurm_futures.errors import SlurmFuturesError
from slurm_futures.node.calls_file import CallsFile


class Call(NamedTuple):
    """A function with its arguments, as they were when the call was submitted."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class CallPlace(NamedTuple):
    """Where a call lies.

    Attributes:
        path: of the calls file.
        job: which of the jobs of that file runs it.
        position: in that job.
    """

    path: Path
    job: int
    position: int


def read_call(place: CallPlace | None) -> Call:
    """Unpickle a call.

    Raises:
        FileNotFoundError: its files were removed.
        SlurmFuturesError: it is not on disk yet, or cannot be read.
        Exception: whatever function or arguments raise where they are unpickled.
    """
    if place is None:
        raise SlurmFuturesError(
            "The call is not on disk yet. Ask again when its future has a job_id."
        )
    try:
        with contextlib.closing(CallsFile(place.path)) as calls:
            entry = list(calls.entries(place.job))[place.position]
            function = calls.load_function(entry)
            args, kwargs = calls.load_arguments(entry)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            errno.ENOENT,
            "the call was removed with the other files of its submission; keep them "
            'with SlurmExecutor(keep="always")',
            str(place.path),
        ) from error
    except (EOFError, PermissionError) as error:
        raise SlurmFuturesError(
            f"The call cannot be read from {place.path}: {error}."
        ) from error
    if function is operator.call and args:  # so a large function is sent
        function, *args = args
    return Call(function, tuple(args), kwargs)
