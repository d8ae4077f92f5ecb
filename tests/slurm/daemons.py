"""Starts the daemons of a cluster and knows them by their pid files.

Every daemon goes to the background by itself and is nobody's child then.
"""

import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypedDict

from tests.slurm import processes
from tests.slurm.layout import Layout
from tests.slurm.programs import Programs
from tests.waiting import becomes_true

_LOG_TAIL = 15  #: lines
_START_TIMEOUT = 60  #: seconds
_READY_TIMEOUT = 60  #: seconds
_LISTEN = "0A"  # in /proc/net/tcp

# What another cluster may have left in our environment, and users' defaults: all of it
# changes what the commands do.
_FOREIGN = (
    *("SLURM_", "SLURMD_", "SBATCH_", "SALLOC_", "SRUN_"),
    *("SQUEUE_", "SCANCEL_", "SINFO_", "SACCT_", "SCONTROL_"),
)


class ClusterError(Exception):
    """A daemon or a command of the cluster failed; the text quotes what it said."""


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


class Daemons:
    """Runs the daemons and commands of one cluster, as its user.

    Attributes:
        user: Their name.
    """

    def __init__(self, layout: Layout, programs: Programs, user: str | None) -> None:
        self._layout = layout
        self._programs = programs
        self._account = (
            pwd.getpwuid(os.geteuid()) if user is None else pwd.getpwnam(user)
        )
        self._is_other_user = self._account.pw_uid != os.geteuid()
        self._identity: _Identity = {}
        if self._is_other_user:
            uid, gid = self._account.pw_uid, self._account.pw_gid
            self._identity = {"user": uid, "group": gid, "extra_groups": []}
        self.user = self._account.pw_name

    def hand_over(self, path: Path) -> None:
        """Make the user the owner of a file or a directory."""
        if self._is_other_user:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Our own environment without anybody's Slurm settings, for this cluster."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        if self._is_other_user:
            kept |= {"HOME": self._account.pw_dir, "USER": self.user}
            kept |= {"LOGNAME": self.user, "TMPDIR": "/tmp"}
        kept["PATH"] = self._programs.path
        kept["SLURM_CONF"] = str(self._layout.configuration)
        return {**kept, **(more or {})}

    def start(
        self,
        daemon: str,
        *command: object,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a program that goes to the background by itself.

        Args:
            daemon: The name of its log and of its pid file.
            command: The program and its arguments.
            environment: Variables to add to it.

        Raises:
            ClusterError: It could not start.
        """
        # Else a look at it before the new one is written would find the old daemon.
        self._layout.pid_file(daemon).unlink(missing_ok=True)
        # Not a pipe: it stays open as long as the daemon, and reading it never ends.
        with self._start_log(daemon).open("ab") as output:
            done = self._execute(command, environment, output, _START_TIMEOUT)
        if done.returncode != 0:
            raise self.failure(daemon, f"ended with exit code {done.returncode}")

    def run(self, *command: object, check: bool = True, timeout: float = 60) -> str:
        """Run a command to its end and return what it printed.

        Raises:
            ClusterError: It failed, if `check` is set; the text has its stderr.
        """
        done = self._execute(command, None, subprocess.PIPE, timeout)
        if check and done.returncode != 0:
            line = " ".join(map(str, command))
            raise ClusterError(
                f"{line!r} ended with exit code {done.returncode}: {done.stderr}"
            )
        return done.stdout

    def pid(self, daemon: str) -> int | None:
        """Tell the process id of a daemon; None when it does not run."""
        pid = self._written_pid(daemon)
        return pid if pid is not None and processes.is_alive(pid) else None

    def send(self, daemon: str, number: signal.Signals) -> None:
        """Send a signal to a daemon.

        Raises:
            ClusterError: It does not run.
        """
        pid = self.pid(daemon)
        if pid is None:
            raise self.failure(daemon, "does not run")
        processes.send([pid], number)

    def end(self, daemon: str, number: signal.Signals, timeout: float = 60) -> None:
        """Send a signal to a daemon and wait until it is gone."""
        pid = self.pid(daemon)
        if pid is None:
            return
        processes.send([pid], number)
        if not becomes_true(lambda: not processes.is_alive(pid), timeout):
            raise self.failure(daemon, f"still runs {timeout:g} s after {number.name}")

    def wait_until(self, ready: Callable[[], object], daemon: str) -> None:
        """Wait until a daemon that was started is of use.

        Raises:
            ClusterError: It died, or the time is up.
        """
        becomes_true(lambda: self._has_died(daemon) or ready(), _READY_TIMEOUT)
        if self._has_died(daemon) or not ready():
            raise self.failure(daemon, "did not get ready")

    def log(self, daemon: str) -> str:
        """Read what a daemon wrote, from before and after it went to the background."""
        logs = [self._start_log(daemon), self._layout.log(daemon)]
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    def failure(self, daemon: str, what: str) -> ClusterError:
        """Make the error that says what happened and quotes the end of the log."""
        tail = "\n".join(self.log(daemon).splitlines()[-_LOG_TAIL:])
        return ClusterError(f"{daemon} {what}. The end of its log:\n{tail}")

    def _has_died(self, daemon: str) -> bool:
        pid = self._written_pid(daemon)
        return pid is not None and not processes.is_alive(pid)

    def _written_pid(self, daemon: str) -> int | None:
        try:
            return int(self._layout.pid_file(daemon).read_text())
        except (FileNotFoundError, ValueError):
            return None  # not written yet, or not to its end

    def _start_log(self, daemon: str) -> Path:
        return self._layout.log(f"{daemon}.start")

    def _execute(
        self,
        command: Sequence[object],
        environment: Mapping[str, str] | None,
        output: IO[bytes] | int,
        timeout: float,
    ) -> subprocess.CompletedProcess[str]:
        program, *arguments = map(str, command)
        return subprocess.run(
            [self._programs.find(program), *arguments],
            cwd=self._layout.work,
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            timeout=timeout,
            check=False,
            **self._identity,
        )


def listens(port: int) -> bool:
    """Tell whether a program of this host listens on a TCP port, without asking it.

    A connection that is closed at once would be an error in the daemon's log.
    """
    address = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            if state == _LISTEN and local.endswith(address):
                return True
    return False
