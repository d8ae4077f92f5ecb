"""Writes the calls of a submission to disk; `node/formats.py` describes the file."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from slurm_futures.calls.call import Blob, PickledCall
from slurm_futures.calls.state import CallerState, capture_state
from slurm_futures.node.calls_file import CallsFile
from slurm_futures.node.formats import (
    CALL_ENTRY,
    CALLS_FOOTER,
    CALLS_MAGIC,
    IDENTITY,
    JOB_ENTRY,
    USE_ENTRY,
)


def write_calls(
    path: Path,
    jobs: Sequence[Sequence[PickledCall]],
    context: Mapping[str, Any],
    base: CallerState | None = None,
) -> None:
    """Write the calls of all jobs of a submission.

    Args:
        path: of the new file.
        jobs: the calls of each job.
        context: what all jobs must know.
        base: the state of the caller with whose environment the jobs begin; None: that
            of the first call.

    Raises:
        OSError: they do not fit, say; nothing of the file is left.
    """
    temporary = path.with_name(f".{path.name}")
    try:
        _write(temporary, jobs, context, base or jobs[0][0].state)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _write(
    path: Path,
    jobs: Sequence[Sequence[PickledCall]],
    context: Mapping[str, Any],
    base: CallerState,
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
        file.write(CALLS_MAGIC)
        blobs = _BlobWriter(file)
        states = _StateWriter(jobs[0][0].state, base, context["cwd"], blobs)
        job_table, call_table, use_table = bytearray(), bytearray(), bytearray()
        identities = bytearray()
        first = 0
        for calls in jobs:
            job_table += JOB_ENTRY.pack(
                first, len(calls), *states.write(calls[0].state)
            )
            first += len(calls)
            for call in calls:
                uses = len(use_table) // USE_ENTRY.size, len(call.shared)
                for blob in call.shared:
                    use_table += USE_ENTRY.pack(*blobs.write_once(blob.content))
                where = (*blobs.write_once(call.function), *blobs.write(call.arguments))
                call_table += CALL_ENTRY.pack(*where, *uses)
                identities += IDENTITY.pack(call.number, call.digest)
        tail = _place_initializer(context, blobs)
        tail |= {"identities": blobs.write(identities)[0]}
        tail |= {"uses": blobs.write(use_table)[0], "state": states.usual}
        jobs_offset = blobs.write(job_table)[0]
        calls_offset = blobs.write(call_table)[0]
        context_place = blobs.write(pickle.dumps(tail, pickle.HIGHEST_PROTOCOL))
        footer = (jobs_offset, len(jobs), calls_offset, first, *context_place)
        file.write(CALLS_FOOTER.pack(*footer, CALLS_MAGIC))
        file.flush()
        os.fsync(file.fileno())


def _place_initializer(
    context: Mapping[str, Any], blobs: _BlobWriter
) -> dict[str, Any]:
    initializer = context["initializer"]
    place = None if initializer is None else blobs.write(initializer)
    return {**context, "initializer": place}


class _BlobWriter:
    """Appends blobs to a calls file and tells where they went."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._offset = file.tell()
        self._written: dict[bytes, tuple[int, int]] = {}

    def write(self, blob: bytes | bytearray) -> tuple[int, int]:
        place = self._offset, len(blob)
        self._file.write(blob)
        self._offset += len(blob)
        return place

    def write_once(self, blob: bytes) -> tuple[int, int]:
        """Write a blob unless the same bytes are in the file already."""
        if blob not in self._written:
            self._written[blob] = self.write(blob)
        return self._written[blob]


class _StateWriter:
    """Appends the states of callers to a calls file, each one once.

    Args:
        usual: the state that is in the context.
        base: that with which the jobs begin.
        cwd: the directory of the caller.
        blobs: the file.
    """

    def __init__(
        self, usual: CallerState, base: CallerState, cwd: str, blobs: _BlobWriter
    ) -> None:
        self._base = base
        self._cwd = cwd
        self._blobs = blobs
        self._last = usual
        self._place = 0, 0
        self.usual = usual.describe(base, cwd)

    def write(self, state: CallerState) -> tuple[int, int]:
        """Return where a state is; (0, 0): it is the usual one."""
        if state is not self._last:
            self._last = state
            self._place = 0, 0
            described = state.describe(self._base, self._cwd)
            if described != self.usual:
                blob = pickle.dumps(described, pickle.HIGHEST_PROTOCOL)
                self._place = self._blobs.write_once(blob)
        return self._place


def read_calls(
    path: Path, job: int, positions: Iterable[int], state: CallerState | None
) -> list[PickledCall]:
    """Read calls of a job back, to submit them once more.

    What they have in common is read once, and in memory once. The state of their caller
    is in the file in part only; None: as it is now.

    Raises:
        OSError: the file cannot be read.
        EOFError: it is incomplete.
    """
    blobs: dict[tuple[int, ...], Blob] = {}

    def read_once(place: tuple[int, ...]) -> Blob:
        if place not in blobs:
            blobs[place] = Blob(calls.read(*place))
        return blobs[place]

    with contextlib.closing(CallsFile(path)) as calls:
        found = list(zip(calls.entries(job), _identities(calls, job), strict=True))
        return [
            PickledCall(
                read_once(entry[:2]).content,
                calls.read(*entry[2:4]),
                tuple(map(read_once, calls.places_of_shared(entry))),
                state or capture_state(),
                *identity,
            )
            for entry, identity in map(found.__getitem__, positions)
        ]


def read_numbers(path: Path) -> list[list[int]]:
    """Return the numbers of the calls of each job.

    Raises:
        OSError: the file cannot be read, or others may have written it.
        EOFError: it is incomplete.
    """
    with contextlib.closing(CallsFile(path)) as calls:
        table = calls.read(
            calls.context["identities"], calls.call_count * IDENTITY.size
        )
        numbers = [number for number, _ in IDENTITY.iter_unpack(table)]
        jobs = calls.read(calls.jobs_offset, calls.job_count * JOB_ENTRY.size)
        return [
            numbers[first : first + count]
            for first, count, *_ in JOB_ENTRY.iter_unpack(jobs)
        ]


def _identities(calls: CallsFile, job: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and digest of each call of a job."""
    place = calls.jobs_offset + job * JOB_ENTRY.size
    first, count, *_ = JOB_ENTRY.unpack(calls.read(place, JOB_ENTRY.size))
    start = calls.context["identities"] + first * IDENTITY.size
    for number, digest in IDENTITY.iter_unpack(
        calls.read(start, count * IDENTITY.size)
    ):
        yield number, digest if any(digest) else b""
