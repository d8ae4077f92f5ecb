"""What Slurm's commands print, as values, and back: pure functions on text.

Lines that make no sense are passed over, words that are not known become UNKNOWN:
a banner or a new release of Slurm must not make all jobs look lost.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator

from slurm_futures.errors import JobState, Refusal
from slurm_futures.schedulers.base import Ending, JobId, Limits, Row

_COMMAND = "|command="
#: What `parse_queue` reads. Directory and command come last: they may hold any
#: character.
QUEUE_FORMAT = f"%F|%K|%t|%r|%Z{_COMMAND}%o"
#: What `parse_accounting` reads.
ACCOUNTING_FORMAT = "JobID,State,ExitCode,NodeList"

_LONGEST_ID = 60_000  # bytes; one argument of a command may have 128 KiB (execve(2))


def parse_queue(text: str, cluster: str | None) -> dict[JobId, tuple[Row, ...]]:
    """Read the answer of squeue: rows by the id of their job or array."""
    jobs: dict[JobId, list[Row]] = {}
    for line in text.split("\n"):  # a directory may hold what splitlines() splits at
        fields = line.split("|", 4)
        if len(fields) != 5 or not fields[0].isdigit():
            continue
        number, indices, code, reason, rest = fields
        directory, _, command = rest.partition(_COMMAND)
        state = parse_state(code)
        try:
            row = Row(state, reason, parse_indices(indices), directory, command)
        except ValueError:
            continue
        jobs.setdefault(JobId(int(number), None, cluster), []).append(row)
    return {job: tuple(rows) for job, rows in jobs.items()}


def parse_state(text: str) -> JobState:
    """Read a compact state, or a long one, also `CANCELLED by 1000`."""
    word = text.partition(" ")[0].rstrip("+")
    try:
        return JobState(word)
    except ValueError:
        return JobState.__members__.get(word, JobState.UNKNOWN)


def parse_indices(text: str) -> tuple[range, ...] | None:
    """Read `7`, `0-99%4` or `[1-99:7,200]`; `N/A` is a job, not an array.

    Raises:
        ValueError: the text is none of these.
    """
    if text == "N/A":
        return None
    listed = text.strip("[]").partition("%")[0]
    return tuple(_parse_range(part) for part in listed.split(","))


def _parse_range(text: str) -> range:
    match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", text)
    if match is None:
        raise ValueError(f"no array index: {text!r}")
    first, last, step = match.groups()
    return range(int(first), int(last or first) + 1, int(step or 1))


def format_ids(jobs: Collection[JobId]) -> Iterator[str]:
    """Yield the shortest ids for scancel, such as `123` and `124_[0-9,12]`.

    A bracket form is one request to slurmctld however many tasks it names.
    """
    indices: dict[int, list[int]] = {}
    whole = {job.number for job in jobs if job.index is None}
    for job in jobs:
        if job.index is not None and job.number not in whole:
            indices.setdefault(job.number, []).append(job.index)
    yield from (str(number) for number in sorted(whole))
    for number, tasks in sorted(indices.items()):
        for text in _format_indices(sorted(set(tasks))):
            yield f"{number}_[{text}]"


def _format_indices(indices: list[int]) -> Iterator[str]:
    parts: list[str] = []
    length = 0
    for first, last in _runs(indices):
        part = str(first) if first == last else f"{first}-{last}"
        if length + len(part) > _LONGEST_ID:
            yield ",".join(parts)
            parts, length = [], 0
        parts.append(part)
        length += len(part) + 1
    yield ",".join(parts)


def _runs(indices: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each run of consecutive numbers."""
    first = last = indices[0]
    for index in indices[1:]:
        if index != last + 1:
            yield first, last
            first = index
        last = index
    yield first, last


def parse_job_id(stdout: str) -> JobId | None:
    """Find the id in what sbatch printed, which may hold a banner of the site."""
    for line in reversed(stdout.splitlines()):
        match = re.fullmatch(r"(\d+)(?:;([\w.-]+))?", line.strip())
        if match is not None:
            return JobId(int(match[1]), None, match[2])
    match = re.search(r"Submitted batch job (\d+)(?: on cluster (\S+))?", stdout)
    return None if match is None else JobId(int(match[1]), None, match[2])


#: What sbatch says, and what it means; the first pattern that is found decides. (A
#: warning that it sleeps and tries again may come before a time-out.) Where
#: nothing is found sbatch has judged the request itself, and would do so again.
_REFUSALS: tuple[tuple[Refusal, str], ...] = (
    (
        Refusal.AMBIGUOUS,
        "Socket timed out|Unable to contact slurm controller|send/recv"
        "|Zero Bytes were transmitted|Unexpected message received"
        "|authentication error|Connection (?:refused|reset|timed out)"
        "|Unable to establish controller|Communication",
    ),
    (
        Refusal.TRANSIENT,
        "Rate limit exceeded|I/O error writing script|standby mode"
        "|Too many open files|Cannot allocate memory"  # sbatch was not started
        "|Slurm backup controller",
    ),
    (Refusal.ARRAY_TOO_LARGE, "Invalid job array specification"),
    (
        Refusal.QUOTA,
        r"QOS\w*Max\w*Submit\w*|Assoc\w*Submit\w*|MaxSubmitJobs\w*"
        r"|QOSGrpSubmitJobs\w*|job submit limit(?!, user's size and/or time limits)"
        # MaxJobCount: slurmctld has no room for so many jobs, or not now.
        "|Resource temporarily unavailable|job queue full|temporarily unable",
    ),
    # What a job_submit plugin of the site says in its own words, if it says anything.
    (
        Refusal.ARRAY_TOO_LARGE,
        r"\barray.*(?:large|big|size|limit|max|exceed|at most|more than)"
        r"|(?:large|big|size|limit|max|exceed|at most|more than).*\barray",
    ),
    (Refusal.NO_ARRAYS, r"\barrays?\b|Unspecified error|operation not supported"),
)


def classify_refusal(stderr: str) -> Refusal:
    """Say what a failed sbatch means for the job."""
    for refusal, pattern in _REFUSALS:
        if re.search(pattern, stderr, re.IGNORECASE):
            return refusal
    return Refusal.PERMANENT


def parse_limits(text: str) -> Limits:
    """Read the answer of `scontrol show config`."""
    settings = dict(re.findall(r"^(\w+)\s*= (.*)$", text, re.MULTILINE))
    sizes = re.findall(r"^\d+", settings.get("MaxArraySize", ""))
    sizes += re.findall(
        r"max_array_tasks=(\d+)", settings.get("SchedulerParameters", "")
    )
    # An array of MaxJobCount tasks is refused even by an empty cluster (22.05).
    room = re.match(r"\d+", settings.get("MaxJobCount", ""))
    sizes += [str(int(room[0]) - 1)] if room else []
    size = max(1, min(map(int, sizes))) if sizes else Limits().array_size
    exits = [settings.get(f"RequeueExit{end}", "") for end in ("", "Hold")]
    return Limits(size, tuple(itertools.chain(*map(_parse_codes, exits))))


def _parse_codes(text: str) -> tuple[range, ...]:
    try:
        return parse_indices(text) or ()
    except ValueError:  # (null)
        return ()


def parse_job_records(text: str, cluster: str | None) -> dict[JobId, Ending]:
    """Read the answer of `scontrol -o show job`: one record in each line.

    The tasks of an array that are pending share one.
    """
    endings: dict[JobId, Ending] = {}
    for line in text.split("\n"):
        fields: dict[str, str] = dict(re.findall(r"(\w+)=(\S*)", line))
        number = fields.get("ArrayJobId") or fields.get("JobId", "")
        if not number.isdigit():
            continue
        try:
            ranges = parse_indices(fields.get("ArrayTaskId", "N/A"))
        except ValueError:
            continue
        directory = re.search(r" WorkDir=(.*?)(?: \w+=|$)", line)
        command = re.search(r" Command=(.*?)(?: \w+=|$)", line)
        ending = _ending(
            fields.get("JobState", ""),
            fields.get("ExitCode", ""),
            fields.get("BatchHost") or fields.get("NodeList"),
            fields.get("Reason"),
            None if directory is None else directory[1],
            None if command is None else command[1],
        )
        array = JobId(int(number), None, cluster)
        if ranges is None:
            endings[array] = ending
        for index in itertools.chain(*(ranges or ())):
            endings[array.task(index)] = ending
    return endings


def parse_accounting(text: str, cluster: str | None) -> dict[JobId, Ending]:
    """Read the answer of sacct in `ACCOUNTING_FORMAT`."""
    endings: dict[JobId, Ending] = {}
    for line in text.splitlines():
        fields = line.split("|")
        match = re.fullmatch(r"(\d+)(?:_(\d+))?", fields[0])
        if match is None or len(fields) < 4:
            continue
        index = None if match[2] is None else int(match[2])
        job = JobId(int(match[1]), index, cluster)
        endings[job] = _ending(fields[1], fields[2], fields[3], None)
    return endings


def _ending(
    state: str,
    exit_code: str,
    node: str | None,
    reason: str | None,
    directory: str | None = None,
    command: str | None = None,
) -> Ending:
    match = re.fullmatch(r"(\d+):(\d+)", exit_code)
    code, signal = (int(match[1]), int(match[2])) if match else (None, None)
    return Ending(
        state=parse_state(state),
        exit_code=code,
        # Slurm keeps the numbers of its own errors in the same place: 53, 125, ...
        signal=signal if signal is not None and 0 < signal < 32 else None,
        node=None if node in {None, "", "(null)", "None assigned"} else node,
        reason=None if reason in {None, "", "None"} else reason,
        directory=directory,
        command=command,
    )
