"""Every exception that the library raises or sets on a future.

    SlurmFuturesError
      OptionError              bad option or directory; raised by the constructor
      SchedulerError           a command of the scheduler failed
        SubmitError            the scheduler refused the job; on the future
      JobFailed                the job ended without an outcome for this call
        JobTimeout             ... at its time limit
        JobOutOfMemory         ... since it took more memory than it asked for
        NodeFailed             ... with its node
        JobPreempted           ... for a job of higher priority
        JobCancelled           ... by scancel, not by `Future.cancel`
        JobLost                ... and nobody knows how
        PendingTimeout         ... since it did not start within `pending_timeout`
      ArgumentFailed           a future among the arguments has no value
      InitializerFailed        the initializer raised
      OutcomeNotReadable       the outcome came back and cannot be unpickled here
      RunInUse                 another program owns the run
      RunNotFound              there is no such run; also a FileNotFoundError
      DetachError              not every call could be left with Slurm
      Detached                 the executor has left its jobs to themselves
      RemoteTraceback          the `__cause__` of an exception that a call raised

`JobFailed`, `InitializerFailed` and `OutcomeNotReadable` are also `BrokenProcessPool`,
and so `BrokenExecutor`: this is what programs written for ProcessPoolExecutor catch
when a worker dies or a result breaks the pool. Only an initializer that fails breaks
the executor here; after the others it goes on.

Each message says what happened, why, and what to type next. The facts are attributes
too, among them Slurm's words: `JobState`, `Refusal`. Every error can be pickled. This
module imports nothing of the package.
"""

from __future__ import annotations

import enum
import errno
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class JobState(enum.Enum):
    """Slurm's job states; the value is squeue's compact code.

    The flags that squeue shows instead of a base state (COMPLETING, STOPPED, ...)
    are here too. Only the states in `ENDED` say that a job is over, and even those
    can be taken back: a requeued job is pending again.
    """

    PENDING = "PD"
    RUNNING = "R"
    SUSPENDED = "S"
    COMPLETED = "CD"
    CANCELLED = "CA"
    FAILED = "F"
    TIMEOUT = "TO"
    NODE_FAIL = "NF"
    PREEMPTED = "PR"
    BOOT_FAIL = "BF"
    DEADLINE = "DL"
    OUT_OF_MEMORY = "OOM"
    COMPLETING = "CG"
    CONFIGURING = "CF"
    STAGE_OUT = "SO"
    RESIZING = "RS"
    REQUEUED = "RQ"
    REQUEUE_FED = "RF"
    REQUEUE_HOLD = "RH"
    SPECIAL_EXIT = "SE"
    STOPPED = "ST"
    REVOKED = "RV"
    RESV_DEL_HOLD = "RD"
    SIGNALING = "SI"
    UNKNOWN = "?"

    @property
    def ended(self) -> bool:
        """Whether a job in this state is over, unless it is requeued."""
        return self in _ENDED

    @property
    def started(self) -> bool:
        """Whether a job in this state has a node and may have begun its work."""
        return self not in _NOT_STARTED


_ENDED = frozenset(
    {
        JobState.COMPLETED,
        JobState.CANCELLED,
        JobState.FAILED,
        JobState.TIMEOUT,
        JobState.NODE_FAIL,
        JobState.PREEMPTED,
        JobState.BOOT_FAIL,
        JobState.DEADLINE,
        JobState.OUT_OF_MEMORY,
    }
)
_NOT_STARTED = frozenset(
    {
        JobState.PENDING,
        JobState.CONFIGURING,
        JobState.REQUEUED,
        JobState.REQUEUE_FED,
        JobState.REQUEUE_HOLD,
        JobState.SPECIAL_EXIT,
        JobState.REVOKED,
        JobState.RESV_DEL_HOLD,
        JobState.UNKNOWN,
    }
)


class Refusal(enum.Enum):
    """Why a submission was refused, as far as it decides what to do next."""

    PERMANENT = "the same submission would be refused again"
    TRANSIENT = "the same submission may be accepted later"
    QUOTA = "too many jobs; fewer may fit, or later when some have ended"
    ARRAY_TOO_LARGE = "a smaller array may be accepted"
    NO_ARRAYS = "jobs that are no arrays may be accepted"
    AMBIGUOUS = "the job may have been created all the same"


Error = TypeVar("Error", bound=BaseException)


def words_of(error: BaseException) -> str:
    """Return the text of an exception, which a class may fail to give."""
    try:
        return str(error)
    except BaseException as failure:  # noqa: BLE001  (whatever its __str__ may raise)
        return f"<its __str__ raised {type(failure).__name__}>"


class SlurmFuturesError(Exception):
    """The root of all errors of this library."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state: constructors with keyword arguments need no call."""
        return _restore, (type(self), self.args, dict(self.__dict__))

    def copy(self) -> Self:
        """Return the same error once more, for another future to raise."""
        error = _restore(type(self), self.args, dict(self.__dict__))
        error.__cause__ = self.__cause__
        return error


def _restore(cls: type[Error], args: tuple[Any, ...], state: dict[str, Any]) -> Error:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class OptionError(SlurmFuturesError, ValueError):
    """An option, or a directory, that cannot work."""


class SchedulerError(SlurmFuturesError):
    """A command of the scheduler failed, or its answer made no sense.

    Attributes:
        command: the command line, as a list of words.
        exit_code: of the command; None if it did not end in time.
        stderr: what it printed there.
    """

    def __init__(
        self,
        message: str,
        *,
        command: Sequence[str] = (),
        exit_code: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message)
        self.command = tuple(command)
        self.exit_code = exit_code
        self.stderr = stderr


class SubmitError(SchedulerError):
    """The scheduler refused a submission; no job exists unless `refusal` says so."""

    def __init__(
        self,
        message: str,
        *,
        refusal: Refusal = Refusal.PERMANENT,
        command: Sequence[str] = (),
        exit_code: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message, command=command, exit_code=exit_code, stderr=stderr)
        self.refusal = refusal


class JobFailed(SlurmFuturesError, BrokenProcessPool):
    """The job ended and left no outcome for this call.

    Attributes:
        job_id: as squeue prints it, such as "4211_7"; None if it never had one.
        state: Slurm's word for how the job ended; None if nobody knows.
        exit_code: of the job script; None if unknown.
        signal: the number of the signal that ended it, or None.
        node: where it ran, if it ran and the node is known.
        stderr_tail: the last lines of what the call printed to stderr.
        directory: the job directory, if it is there.
    """

    def __init__(
        self,
        message: str,
        *,
        job_id: str | None = None,
        state: JobState | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        node: str | None = None,
        stderr_tail: str = "",
        directory: Path | None = None,
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.state = state
        self.exit_code = exit_code
        self.signal = signal
        self.node = node
        self.stderr_tail = stderr_tail
        self.directory = directory


class JobTimeout(JobFailed):
    """The job reached its time limit."""


class JobOutOfMemory(JobFailed):
    """The job took more memory than it asked for."""


class NodeFailed(JobFailed):
    """The node of the job failed or did not boot."""


class JobPreempted(JobFailed):
    """The job had to make room for one of higher priority."""


class JobCancelled(JobFailed):
    """Somebody cancelled the job with scancel; `Future.cancel` does not lead here."""


class JobLost(JobFailed):
    """The job is over or forgotten, and nothing tells how it ended."""


class PendingTimeout(JobFailed):
    """The job was still pending after `pending_timeout` seconds, and was cancelled."""


class ArgumentFailed(SlurmFuturesError):
    """A future among the arguments of the call failed: its error is the cause."""


class InitializerFailed(SlurmFuturesError, BrokenProcessPool):
    """The initializer raised in a job; its exception is the `__cause__`."""


class OutcomeNotReadable(SlurmFuturesError, BrokenProcessPool):
    """The call ended, but its value or exception cannot be unpickled here.

    Attributes:
        text: what the worker wrote about it, with the remote traceback.
    """

    def __init__(self, message: str, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class RunInUse(SlurmFuturesError):
    """Another program owns the run, or another executor of this one.

    Attributes:
        host: where that runs; None if nobody knows.
        pid: the number of its process there; None likewise.
    """

    def __init__(
        self, message: str, *, host: str | None = None, pid: int | None = None
    ) -> None:
        super().__init__(message)
        self.host = host
        self.pid = pid


class RunNotFound(SlurmFuturesError, FileNotFoundError):
    """There is no such run, or what is there is no run."""


class Detached(SlurmFuturesError):
    """The executor has left its jobs to themselves: open the run to get the value."""


class DetachError(SlurmFuturesError):
    """Some calls are not with Slurm yet, so that the program cannot leave them.

    Attributes:
        missing: how many.
    """

    def __init__(self, message: str, *, missing: int) -> None:
        super().__init__(message)
        self.missing = missing


class RemoteTraceback(SlurmFuturesError):
    """The traceback of a call's exception, as text; the exception's `__cause__`."""

    def __init__(self, tb: str) -> None:
        super().__init__(tb)
        self.tb = f'\n"""\n{tb}"""'

    def __str__(self) -> str:
        return self.tb


#: Errors that say that this process, not the file system, is short of something.
_PASSING_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})


def shown(value: object) -> str:
    """Return the repr of a value of the user; of one whose repr fails, the class."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  (whatever it raises; the message matters)
        return f"<{type(value).__name__}>"


def is_passing(error: BaseException) -> bool:
    """Whether what the system refused may be possible in a while."""
    return getattr(error, "errno", None) in _PASSING_ERRORS
