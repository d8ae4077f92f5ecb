"""Slurm, through its commands: the only module that starts them.

Nothing is kept about jobs here and nothing is retried. What the user's environment
says to Slurm's commands must not change what we ask (SQUEUE_PARTITION hides jobs,
SCANCEL_STATE turns cancels into nothing, a job that submits jobs would pass its own
SLURM_* on), so each command gets an environment of its own.
"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import subprocess
import threading
import time
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path

from slurm_futures.errors import OptionError, Refusal, SchedulerError, SubmitError
from slurm_futures.schedulers import slurm_text
from slurm_futures.schedulers.arguments import check_seconds
from slurm_futures.schedulers.base import (
    BatchScript,
    Ending,
    JobId,
    Limits,
    Row,
    Snapshot,
)

logger = logging.getLogger("slurm_futures")

# Seconds. sbatch alone repeats its request for up to 120 s while slurmctld has no room,
# scancel for over 90 s while a job changes its state.
_TIMEOUT = 60.0
_LONG_TIMEOUT = 200.0

#: Variables that turn a submission into another one; those for account, partition and
#: the like are what a user or a site sets on purpose.
_SBATCH_VARIABLES = frozenset(
    f"SBATCH_{name}"
    for name in (
        "ARRAY_INX CLUSTERS DEBUG ERROR EXPORT GET_USER_ENV IGNORE_PBS INPUT JOB_NAME "
        "NO_REQUEUE OPEN_MODE OUTPUT QUIET REQUEUE SIGNAL TEST_ONLY WAIT WRAP"
    ).split()
)

#: Of each identity: clusters on which jobs were submitted, since squeue must ask them
#: all, and the limits, which slurmctld is asked for once in a process.
_clusters: dict[Hashable, set[str | None]] = {}
_limits: dict[Hashable, Limits] = {}
_shared_lock = threading.Lock()
#: What commands have complained about that did their work all the same, such as a line
#: of slurm.conf: squeue says it too, each time.
_usual_complaints: set[str] = set()


def _renew_lock() -> None:
    global _shared_lock  # noqa: PLW0603  (a thread of the parent may have held it)
    _shared_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class SlurmScheduler:
    """Runs scripts as Slurm jobs.

    Args:
        poll_interval: seconds between two calls of squeue by this process; while
            nothing changes they become up to 12 times as long.

    Raises:
        OptionError: there is no sbatch here.
    """

    def __init__(self, poll_interval: float = 5.0) -> None:
        if shutil.which("sbatch") is None:
            raise OptionError(
                "The command sbatch is not on the PATH, so Slurm jobs cannot be "
                "submitted from this machine. Run the program on a login node, "
                'or run the calls on this machine: SlurmExecutor(scheduler="local").'
            )
        check_seconds("poll_interval", poll_interval, positive=True)
        self.poll_interval = poll_interval
        self._configuration = os.environ.get("SLURM_CONF")
        self._path = os.environ.get("PATH")
        self._has_accounting = True

    @property
    def identity(self) -> Hashable:
        """The configuration and the user: who shares both sees the same jobs."""
        return ("slurm", self._configuration, shutil.which("squeue"), os.geteuid())

    def limits(self) -> Limits:
        """Ask slurmctld for its configuration, once in a process."""
        with _shared_lock:
            limits = _limits.get(self.identity)
        if limits is None:
            answer = self._run(["scontrol", "show", "config"])
            limits = slurm_text.parse_limits(answer.stdout)
            with _shared_lock:
                _limits[self.identity] = limits
        return limits

    def submit(self, batch: BatchScript) -> JobId:
        """Run sbatch once."""
        command = ["sbatch", "--parsable", *_sbatch_words(batch)]
        try:
            answer = self._run(
                command,
                timeout=_LONG_TIMEOUT,
                keep="SBATCH_",
                environment=batch.environment,
            )
        except SchedulerError as error:
            refused = _refused(batch, error)
            if refused.refusal is Refusal.AMBIGUOUS:
                self._note_clusters(batch.clusters)
            raise refused from None
        job_id = slurm_text.parse_job_id(answer.stdout)
        if job_id is None:
            self._note_clusters(batch.clusters)
            raise SubmitError(
                f"sbatch accepted the job {batch.name!r} and printed no job id.\n"
                f"It said: {answer.stdout + answer.stderr!r}.",
                refusal=Refusal.AMBIGUOUS,
                command=command,
                exit_code=answer.returncode,
                stderr=answer.stderr,
            )
        if answer.stderr.strip():
            logger.info("job %s: sbatch said %r", job_id, answer.stderr.strip())
        self._note_clusters({job_id.cluster})
        return job_id

    def _note_clusters(self, names: Collection[str | None]) -> None:
        """Let queries ask these clusters as well, where there are or may be jobs."""
        with _shared_lock:
            _clusters.setdefault(self.identity, set()).update(names)

    def query(self) -> Snapshot:
        """Run squeue once, on each cluster where jobs were submitted.

        Raises:
            SchedulerError: none of them answered.
        """
        started_at = time.monotonic()
        with _shared_lock:
            clusters = sorted(_clusters.get(self.identity, {None}), key=str)
        jobs: dict[JobId, tuple[Row, ...]] = {}
        silent: dict[str | None, SchedulerError] = {}
        for cluster in clusters:
            try:
                jobs |= slurm_text.parse_queue(self._squeue(cluster), cluster)
            except SchedulerError as error:
                silent[cluster] = error
        if len(silent) == len(clusters):
            raise silent[clusters[0]]
        return Snapshot(started_at, jobs, frozenset(silent))

    def _squeue(self, cluster: str | None) -> str:
        # -a: without it jobs in hidden partitions are not shown. No --array: it loses
        # rows where the pending indices are evenly spaced (squeue 22.05 to 25.11).
        command = ["squeue", "-a", "-h", "-t", "all", "-o", slurm_text.QUEUE_FORMAT]
        command += _cluster_words(cluster)
        try:
            command.append(f"--user={pwd.getpwuid(os.geteuid()).pw_name}")
        except KeyError:
            # squeue shows nothing to a user without a name (before 25.05), and says
            # so with exit code 0. All jobs it is, then: ours are known by their ids.
            logger.debug("user %d has no name; squeue lists all jobs", os.geteuid())
        answer = self._run(command)
        # An empty list says nothing where squeue could not make one: it may complain of
        # that with exit code 0.
        if not answer.stdout.strip() and _complaints(answer) - _usual_complaints:
            raise _failed(command, answer.returncode, answer.stderr)
        return answer.stdout

    def cancel(self, jobs: Collection[JobId]) -> None:
        """Run scancel with bracket forms: one request for each array.

        Raises:
            SchedulerError: some jobs are not cancelled; the others are.
        """
        failure: SchedulerError | None = None
        for cluster in sorted({job.cluster for job in jobs}, key=str):
            ids = list(
                slurm_text.format_ids([job for job in jobs if job.cluster == cluster])
            )
            for start in range(0, len(ids), 1000):
                words = [*_cluster_words(cluster), *ids[start : start + 1000]]
                try:
                    self._run(["scancel", *words], timeout=_LONG_TIMEOUT)
                except SchedulerError as error:
                    failure = error
        if failure is not None:
            raise failure

    def throttle(self, array: JobId, limit: int) -> None:
        """Change the ArrayTaskThrottle."""
        self._run(
            [
                "scontrol",
                *_cluster_words(array.cluster),
                "update",
                f"JobId={array.number}",
                f"ArrayTaskThrottle={limit}",
            ]
        )

    def explain(self, jobs: Collection[JobId]) -> Mapping[JobId, Ending]:
        """Ask slurmctld, and for what it has forgotten the accounting."""
        wanted = set(jobs)
        endings: dict[JobId, Ending] = {}
        for array in sorted({job.array for job in wanted}, key=str):
            endings |= self._ask_controller(array)
        missing = wanted - endings.keys()
        if missing and self._has_accounting:
            endings |= self._ask_accounting(missing)
        return {job: endings[job] for job in wanted & endings.keys()}

    def _ask_controller(self, array: JobId) -> dict[JobId, Ending]:
        words = [*_cluster_words(array.cluster), "-o", "show", "job"]
        try:
            answer = self._run(["scontrol", *words, str(array.number)])
        except SchedulerError as error:  # forgotten, MinJobAge after the end
            logger.debug("job %s: %s", array, error)
            return {}
        return slurm_text.parse_job_records(answer.stdout, array.cluster)

    def _ask_accounting(self, jobs: Collection[JobId]) -> dict[JobId, Ending]:
        endings: dict[JobId, Ending] = {}
        for cluster in sorted({job.cluster for job in jobs}, key=str):
            here = {str(job.number) for job in jobs if job.cluster == cluster}
            command = ["sacct", "-X", "-n", "-P", "-o", slurm_text.ACCOUNTING_FORMAT]
            command += [*_cluster_words(cluster), "-j", ",".join(sorted(here))]
            try:
                answer = self._run(command)
            except SchedulerError as error:
                # Many sites have no accounting; then sacct is not asked again.
                self._has_accounting = "storage is disabled" not in error.stderr
                logger.debug("%s", error)
                continue
            endings |= slurm_text.parse_accounting(answer.stdout, cluster)
        return endings

    def _run(
        self,
        command: Sequence[str],
        *,
        timeout: float = _TIMEOUT,
        keep: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands.

        Raises:
            SchedulerError: it could not be started, failed, or took too long.
        """
        logger.debug("running %s", command)
        given = os.environ if environment is None else environment
        try:
            answer = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="surrogateescape",
                timeout=timeout,
                executable=self._find(command[0], given),
                env=self._environment(keep, given),
                cwd=_directory_of_commands(),
                # Ctrl-C in the terminal is for the program, not for a running sbatch.
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _failed(command, None, f"no answer within {timeout:g} s") from None
        except OSError as error:
            raise _failed(command, 127, str(error)) from error
        if answer.returncode != 0:
            raise _failed(command, answer.returncode, answer.stderr or answer.stdout)
        if answer.stdout.strip():
            _usual_complaints.update(_complaints(answer))
        return answer

    def _find(self, name: str, environment: Mapping[str, str]) -> str | None:
        """Return where a command is that this environment may not find; else None.

        A program may clear it for a while, and the calls shall have it so.
        """
        if environment.get("PATH") == self._path:
            return None
        return shutil.which(name) or shutil.which(name, path=self._path)

    def _environment(self, keep: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for a command; `keep` is a prefix to be passed on."""
        ours = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "SRUN_", "PMI")
        environment = {
            name: value
            for name, value in given.items()
            if not name.startswith(ours)
            or (keep and name.startswith(keep) and name not in _SBATCH_VARIABLES)
        }
        if self._configuration is not None:
            environment["SLURM_CONF"] = self._configuration
        if "SLURM_JWT" in os.environ:  # how some sites know their users
            environment["SLURM_JWT"] = os.environ["SLURM_JWT"]
        if not keep:
            # The environment of sbatch becomes that of the job: no changes there.
            environment |= {"LC_ALL": "C", "SLURM_BITSTR_LEN": "0"}
        return environment


def _directory_of_commands() -> str | None:
    """Return None, the directory of this program; another one if it was deleted.

    sbatch tells jobs of it (SLURM_SUBMIT_DIR), and fails where it is not there.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        return "/"
    return None


def _complaints(answer: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the errors that a command has printed, without its name."""
    lines = answer.stderr.splitlines()
    return {line.partition(":")[2] for line in lines if "error" in line.lower()}


def _sbatch_words(batch: BatchScript) -> list[str]:
    """Return the command line; it has priority over environment and directives."""
    words = [
        f"--job-name={batch.name}",
        f"--chdir={batch.directory}",
        f"--output={batch.log}",
        "--open-mode=append",
    ]
    if batch.array_size is not None:
        throttle = "" if batch.throttle is None else f"%{batch.throttle}"
        words.append(f"--array=0-{batch.array_size - 1}{throttle}")
    if not {"requeue", "no_requeue"} & batch.options.keys():
        # A call runs at most once unless the user says otherwise.
        words.append("--no-requeue")
    for name, value in batch.options.items():
        option = f"--{name.replace('_', '-')}"
        words.append(option if value is True else f"{option}={value}")
    return [*words, str(batch.script), *batch.arguments]


def _cluster_words(cluster: str | None) -> list[str]:
    return [] if cluster is None else ["-M", cluster]


def _failed(
    command: Sequence[str], exit_code: int | None, stderr: str
) -> SchedulerError:
    said = " ".join(stderr.split()) or "nothing"
    ending = "" if exit_code is None else f" with exit code {exit_code}"
    return SchedulerError(
        f"{command[0]} failed{ending}. It said: {said}",
        command=command,
        exit_code=exit_code,
        stderr=stderr,
    )


def _refused(batch: BatchScript, error: SchedulerError) -> SubmitError:
    said = error.stderr.strip() or "nothing"
    if error.exit_code is None or error.exit_code < 0:
        refusal = Refusal.AMBIGUOUS
    else:
        refusal = slurm_text.classify_refusal(error.stderr)
    return SubmitError(
        f"sbatch refused the job {batch.name!r} (exit code {error.exit_code}).\n"
        f"It said: {said}\n{_advice(error.stderr)}",
        refusal=refusal,
        command=error.command,
        exit_code=error.exit_code,
        stderr=error.stderr,
    )


def _advice(stderr: str) -> str:
    """Say what to type after a refusal that Slurm explains in this way."""
    for words, advice in (
        ("partition", 'Choose one that sinfo lists: SlurmExecutor(partition="...").'),
        ("account", 'Choose one of yours: SlurmExecutor(account="...").'),
        ("qos", 'Choose one that you may use: SlurmExecutor(qos="...").'),
        ("Memory specification", 'Ask for less, such as SlurmExecutor(mem="4G").'),
        ("time limit", 'Write it as minutes or H:MM:SS: SlurmExecutor(time="30:00").'),
        ("unrecognized option", "This release of sbatch does not have it: leave it."),
    ):
        if words.lower() in stderr.lower():
            return advice
    return "Change the options of the SlurmExecutor, then submit again."
