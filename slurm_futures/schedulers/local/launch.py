"""What sbatch does for `LocalScheduler`: checks a submission and copies its script."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_futures.errors import Refusal, SubmitError, is_passing
from slurm_futures.schedulers.quantities import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slurm_futures.schedulers.base import BatchScript

#: Tasks of an array; the largest MaxArraySize that slurm.conf(5) allows.
ARRAY_SIZE = 4_000_001

#: Variables of Slurm that describe a job around this one must not reach it, but how
#: to find Slurm, and what belongs to this library, may.
_SLURM_VARIABLE = re.compile(
    "(?!SLURM_(?:CONF|JWT)$|SLURM_FUTURES_)(SLURM|SBATCH|SQUEUE|SCANCEL|SRUN|PMI)"
)
_NOT_A_SCRIPT = """\
This does not look like a batch script.  The first
line must start with #! followed by the path to an interpreter.
For instance: #!/bin/sh"""
_DOS_LINES = (
    r"Batch script contains DOS line breaks (\r\n)"
    "\n"
    r"instead of expected UNIX line breaks (\n)."
)


@dataclass(frozen=True, slots=True)
class Launch:
    """A submission that was accepted, and what it takes to start its jobs.

    Attributes:
        batch: as it was submitted.
        script: private copy of the script, removed when all jobs have ended.
        command: interpreter, that copy, arguments.
        submit_directory: where the client was at the time of the submission.
        environment: of the client, likewise.
        cpus: for each job; at most as many as there are.
        time_limit: of each job, seconds; None for no limit.
    """

    batch: BatchScript
    script: Path
    command: Sequence[str]
    submit_directory: Path
    environment: Mapping[str, str]
    cpus: int
    time_limit: float | None


def prepare(batch: BatchScript, cpus: int) -> Launch:
    """Check a submission, and copy its script, for a computer with so many CPUs.

    Raises:
        SubmitError: with Slurm's words.
    """
    try:
        _check_array_size(batch.array_size)
        time_limit = _time_limit(batch)
        wanted = _parse_count(batch.options.get("cpus_per_task", 1), "--cpus-per-task")
        text = _read_script(batch.script)
        interpreter = _interpreter(text)
        script = _copy(text)
    except _RefusalError as refused:
        raise _submit_error(batch, refused) from None
    return Launch(
        batch=batch,
        script=script,
        command=(*interpreter, str(script), *batch.arguments),
        submit_directory=_working_directory() or batch.directory,
        environment=client_environment(),
        cpus=min(wanted, cpus),
        time_limit=time_limit,
    )


class _RefusalError(ValueError):
    """Slurm's words for what is wrong."""

    refusal = Refusal.PERMANENT
    exit_code = 1


class _ArrayTooLargeError(_RefusalError):
    refusal = Refusal.ARRAY_TOO_LARGE


class _PassingError(_RefusalError):
    refusal = Refusal.TRANSIENT


class _OptionError(_RefusalError):
    exit_code = 255


def _submit_error(batch: BatchScript, refused: _RefusalError) -> SubmitError:
    lines = str(refused).splitlines()
    return SubmitError(
        f"The local scheduler refused the job {batch.name!r}, as sbatch would do.\n"
        f'It said: "{" ".join(lines)}".\n'
        "Options and their values are those of sbatch: see 'man sbatch'.",
        refusal=refused.refusal,
        exit_code=refused.exit_code,
        stderr="".join(f"sbatch: error: {line}\n" for line in lines),
    )


def _check_array_size(size: int | None) -> None:
    if size is not None and not 1 <= size <= ARRAY_SIZE:
        kind = _ArrayTooLargeError if size > ARRAY_SIZE else _RefusalError
        raise kind("Batch job submission failed: Invalid job array specification")


def _time_limit(batch: BatchScript) -> float | None:
    try:
        return parse_time(batch.options.get("time", "UNLIMITED"))
    except ValueError as error:
        raise _OptionError(str(error)) from None


def _parse_count(value: object, option: str) -> int:
    if re.fullmatch("[1-9][0-9]*", str(value)):
        return int(str(value))
    raise _RefusalError(f'Invalid numeric value "{value}" for {option}.')


def _read_script(path: Path) -> bytes:
    try:
        text = path.read_bytes()
    except OSError as error:
        refused = _PassingError if is_passing(error) else _RefusalError
        raise refused(f"Unable to open file {path}") from None
    if not text:
        raise _RefusalError("Batch script is empty!")
    if not text.startswith(b"#!"):
        raise _RefusalError(_NOT_A_SCRIPT)
    if b"\r\n" in text:
        raise _RefusalError(_DOS_LINES)
    return text


def _interpreter(text: bytes) -> list[str]:
    """The program of the first line and its argument, as the kernel reads them."""
    # Naming the interpreter, instead of executing the copy, works where the temporary
    # directory is mounted noexec, and while another thread has the copy open.
    line = text[2:].split(b"\n", 1)[0].strip(b" \t")
    words = line.split(None, 1)
    if not words:
        raise _RefusalError(_NOT_A_SCRIPT)
    return [os.fsdecode(word) for word in words]


def _copy(text: bytes) -> Path:
    path = None
    try:
        descriptor, name = tempfile.mkstemp(prefix="slurm_script_")
        os.close(descriptor)
        path = Path(name)
        path.write_bytes(text)
    except OSError as error:
        if path is not None:
            path.unlink(missing_ok=True)
        refused = _PassingError if is_passing(error) else _RefusalError
        raise refused(f"I/O error writing script: {error}") from error
    return path


def client_environment() -> dict[str, str]:
    """The environment that a job inherits from the client."""
    return {
        name: value
        for name, value in os.environ.items()
        if not _SLURM_VARIABLE.match(name)
    }


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # somebody has removed it
        return None
