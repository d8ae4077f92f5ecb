"""What the commands of Slurm 22.05 do and print, as far as slurm_futures uses them."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pwd
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slurm_futures.errors import SchedulerError
from slurm_futures.schedulers.base import BatchScript, Ending, JobId, Row
from slurm_futures.schedulers.local.launch import prepare
from tests.stand_in.formats import expand, format_indices, parse_indices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slurm_futures.schedulers.local.scheduler import LocalScheduler

_BITSTR_LEN = 63  # characters of %K, unless SLURM_BITSTR_LEN=0
#: Those of sbatch that take no value.
_FLAGS = {"parsable", "requeue", "no-requeue", "hold", "exclusive"}
_OPTIONS = {
    *("account", "array", "chdir", "comment", "cpus-per-task", "gres", "job-name"),
    *("mem", "nodes", "ntasks", "open-mode", "output", "partition", "qos", "time"),
}

_SQUEUE = argparse.ArgumentParser("squeue", add_help=False)
_SQUEUE.add_argument("-a", "-h", action="store_true")
_SQUEUE.add_argument("-t", "-M")
_SQUEUE.add_argument("-o", dest="format")
_SQUEUE.add_argument("--user")


class Request(NamedTuple):
    """A command line, where it was typed, and in which environment."""

    command: list[str]
    directory: str
    environment: dict[str, str]


class Answer(NamedTuple):
    """What a command prints, and its exit code."""

    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0


class Commands:
    """sbatch, squeue, scancel, scontrol and sacct in front of a LocalScheduler."""

    def __init__(
        self, scheduler: LocalScheduler, cpus: int, max_array_size: int
    ) -> None:
        self._scheduler = scheduler
        self._cpus = cpus
        self._max_array_size = max_array_size
        self._batches: dict[int, BatchScript] = {}
        self._lock = threading.Lock()

    def run(self, request: Request) -> Answer:
        """Run a command, one at a time."""
        try:
            with self._lock:
                return self._run(request.command[0], request)
        except SchedulerError as error:
            return _failure(error.stderr.rstrip(), error.exit_code or 1)

    def _run(self, command: str, request: Request) -> Answer:
        words = request.command[1:]
        match command:
            case "sbatch":
                return self._sbatch(request)
            case "squeue":
                return self._squeue(words, request.environment)
            case "scancel":
                return self._scancel(words)
            case "scontrol":
                return self._scontrol(words)
        return _failure("Slurm accounting storage is disabled")  # sacct

    def _sbatch(self, request: Request) -> Answer:
        words = request.command[1:]
        options: dict[str, str | bool] = {}
        while words and words[0].startswith("--"):
            name, _, value = words[0].removeprefix("--").partition("=")
            if name not in _FLAGS | _OPTIONS:
                return _unrecognized("sbatch", words[0])
            options[name.replace("-", "_")] = True if name in _FLAGS else value
            words.pop(0)
        if options.get("partition", "debug") != "debug":
            return _failure(
                f"sbatch: error: invalid partition specified: {options['partition']}\n"
                "sbatch: error: Batch job submission failed: "
                "Invalid partition name specified"
            )
        array = re.fullmatch(r"0-(\d+)(?:%(\d+))?", str(options.get("array", "0-0")))
        if array is None or int(array[1]) >= self._max_array_size:
            return _failure(
                "sbatch: error: Batch job submission failed: "
                "Invalid job array specification"
            )
        script = Path(request.directory, words[0])
        if not script.exists():
            return _failure(f"sbatch: error: Unable to open file {words[0]}")
        directory = Path(str(options.get("chdir", request.directory)))
        batch = BatchScript(
            script=script,
            name=str(options.get("job_name", script.name)),
            directory=directory,
            log=str(directory / str(options.get("output", "slurm-%A_%a.out"))),
            arguments=tuple(words[1:]),
            array_size=int(array[1]) + 1 if "array" in options else None,
            throttle=int(array[2]) if array[2] else None,
            options=options,
        )
        launch = dataclasses.replace(
            prepare(batch, self._cpus),
            submit_directory=Path(request.directory),
            # Slurm passes everything on: stale SLURM_* variables, too.
            environment=request.environment,
        )
        job = self._scheduler._add(launch)
        self._batches[job.number] = batch
        return Answer(f"{job}\n")

    def _squeue(self, words: list[str], environment: Mapping[str, str]) -> Answer:
        arguments = _SQUEUE.parse_args(words)
        if arguments.user is not None:
            user = _user_id(arguments.user)
            if user is None:
                return Answer(
                    stderr=f"squeue: error: Invalid user: {arguments.user}\n\n"
                )
            if user != os.geteuid():
                return Answer()
        full = environment.get("SLURM_BITSTR_LEN") == "0"
        lines = [
            expand(arguments.format, job, row, self._indices(job, row, full))
            for job, rows in self._scheduler.query().jobs.items()
            for row in rows
        ]
        return Answer("".join(f"{line}\n" for line in lines))

    def _indices(self, job: JobId, row: Row, full: bool) -> str:
        if row.indices is None:
            return "N/A"
        throttle = self._batches[job.number].throttle
        text = format_indices(row.indices)
        if not full and len(text) > _BITSTR_LEN:
            text = f"{text[: _BITSTR_LEN - 3]}..."
        alone = sum(map(len, row.indices)) == 1
        return text if alone or not throttle else f"{text}%{throttle}"

    def _scancel(self, words: list[str]) -> Answer:
        if not words:
            return _failure("scancel: error: No job identification provided")
        jobs: list[JobId] = []
        for word in words:
            found = re.fullmatch(r"(\d+)(?:_(?:(\d+)|\[([\d,-]+)\]))?", word)
            if found is None:
                return _failure(f"scancel: error: Invalid job id {word}")
            array = JobId(int(found[1]))
            if listed := found[2] or found[3]:
                jobs += [array.task(index) for index in parse_indices(listed)]
            else:
                jobs.append(array)
        self._scheduler.cancel(jobs)
        return Answer()

    def _scontrol(self, words: list[str]) -> Answer:
        match words:
            case ["show", "config"]:
                return Answer(self._configuration())
            case ["update", job, throttle]:
                number, limit = job.partition("=")[2], throttle.partition("=")[2]
                self._throttle(int(number), int(limit))
                return Answer()
            case ["-o", "show", "job", job]:
                number, _, index = job.partition("_")
                return self._show(JobId(int(number)), index)
        return _failure(f"invalid keyword: {' '.join(words)}")

    def _configuration(self) -> str:
        limits = self._scheduler.limits()
        return (
            f"MaxArraySize            = {self._max_array_size}\n"
            f"MessageTimeout          = 10 sec\n"
            f"MinJobAge               = {limits.min_job_age:g} sec\n"
            f"SLURM_VERSION           = 22.05.8\n"
        )

    def _throttle(self, number: int, limit: int) -> None:
        self._scheduler.throttle(JobId(number), limit)
        self._batches[number] = dataclasses.replace(
            self._batches[number], throttle=limit
        )

    def _show(self, job: JobId, index: str) -> Answer:
        rows = self._scheduler.query().jobs.get(job)
        if rows is None:
            return _failure("slurm_load_jobs error: Invalid job id specified")
        records = [self._record(job, row) for row in rows]
        if index:
            records = [line for line in records if f" ArrayTaskId={index} " in line]
        if not records:
            return Answer(f"Job {job}_{index} not found\n", exit_code=1)
        return Answer("".join(f"{line}\n" for line in records))

    def _record(self, job: JobId, row: Row) -> str:
        batch = self._batches[job.number]
        ids = f"JobId={job}"
        one = job
        if batch.array_size is not None:
            indices = self._indices(job, row, full=False)
            ids += f" ArrayJobId={job}"
            if row.indices is not None:
                ids += f" ArrayTaskId={indices}"
                one = job.task(row.indices[0][0])
        ending = self._scheduler.explain([one]).get(one, Ending())
        node = ending.node or ""
        return (
            f"{ids} JobName={batch.name} JobState={row.state.name} "
            f"Reason={row.reason} Restarts=0 "
            f"ExitCode={ending.exit_code or 0}:{ending.signal or 0} "
            f"NodeList={node} {f'BatchHost={node} ' if node else ''}"
            f"Command={batch.script} WorkDir={batch.directory} Power="
        )


def _user_id(user: str) -> int | None:
    try:
        if user.isdecimal():
            return pwd.getpwuid(int(user)).pw_uid
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _unrecognized(command: str, word: str) -> Answer:
    return _failure(
        f"{command}: unrecognized option '{word}'\n"
        f'Try "{command} --help" for more information',
        255,
    )


def _failure(stderr: str, exit_code: int = 1) -> Answer:
    return Answer("", f"{stderr}\n", exit_code)
