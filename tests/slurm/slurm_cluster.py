"""A real Slurm in one directory, started for a test and thrown away after it.

munged, slurmctld and the slurmds of all nodes run on this machine, without systemd
or containers, as root or as an ordinary user:

    with SlurmCluster(ClusterOptions(nodes=2)) as cluster:
        cluster.run("sbatch", "--wait", "--wrap", "hostname")

A program finds the cluster through `cluster.environment`. Nothing here changes the
environment of this process.
"""

import atexit
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.slurm import processes
from tests.slurm.assembly import (
    Parts,
    assemble,
    end,
    end_processes,
    kill,
    marks,
    start_munge,
)
from tests.slurm.daemons import ClusterError, listens
from tests.slurm.layout import claim_directory
from tests.slurm.options import ClusterOptions
from tests.slurm.tick import tick_environment

# What the fixture `start_cluster` is: it takes the fields of ClusterOptions.
StartCluster = Callable[..., "SlurmCluster"]

_USABLE = {"idle", "mixed", "allocated"}


class SlurmCluster:
    """A Slurm of its own: start it, do something bad to it, stop it.

    Not for several threads at once, except `run` and the properties. A started cluster
    is stopped when the program ends, if nobody did it before.
    """

    def __init__(self, options: ClusterOptions | None = None) -> None:
        self.options = options or ClusterOptions()
        self._started: Parts | None = None
        self._owner = 0

    def __repr__(self) -> str:
        where = self._started.layout.directory if self._started else "not started"
        return f"<SlurmCluster {where}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all daemons and wait until all nodes take jobs.

        Raises:
            ClusterError: Something did not come up; nothing is left running.
            FileNotFoundError: A program is missing, see `slurm_available`.
        """
        assert self._started is None, f"{self} runs already"
        claim = claim_directory(end_processes)
        self._owner = os.getpid()
        atexit.register(self._stop_at_exit)
        try:
            self._started = assemble(self.options, claim)
            self._start_daemons()
        except BaseException:
            atexit.unregister(self._stop_at_exit)
            self._started = None
            end(claim)
            raise

    def stop(self) -> None:
        """End all daemons, jobs and their processes, and delete the directory.

        Raises:
            ClusterError: Some processes survive SIGKILL.
        """
        if self._started is None:
            return
        atexit.unregister(self._stop_at_exit)
        claim, self._started = self._started.claim, None
        end(claim)

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner:  # not in a forked child that ends
            self.stop()

    @property
    def is_started(self) -> bool:
        """Whether it runs."""
        return self._started is not None

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a program finds this cluster."""
        variables = {"SLURM_CONF": str(self._parts.layout.configuration)}
        if self.options.root is not None:
            commands = str(self.options.root / "slurm/bin")
            before = os.environ.get("PATH", os.defpath)
            # Where they can be found, others may stand before them on purpose.
            if commands not in before.split(os.pathsep):
                variables["PATH"] = os.pathsep.join([commands, before])
        return variables

    @property
    def directory(self) -> Path:
        """Where everything of this cluster lies."""
        return self._parts.layout.directory

    @property
    def work(self) -> Path:
        """A directory for the files of jobs: `run` works there."""
        return self._parts.layout.work

    @property
    def node_names(self) -> list[str]:
        """The names of the nodes: n1, n2 and so on, unless cgroups need others."""
        return self._parts.configuration.node_names

    @property
    def user(self) -> str:
        """Who runs the daemons and the commands."""
        return self._parts.daemons.user

    @property
    def version(self) -> tuple[int, int]:
        """Slurm's release, (22, 5) for 22.05."""
        return self._parts.configuration.version

    def processes(self) -> set[int]:
        """Find all living processes of this cluster: daemons, steps, and their jobs."""
        return processes.find(marks(self._parts.layout))

    def log(self, daemon: str) -> str:
        """Read the log of "slurmctld", "slurmd.n1", "munged", "slurmdbd", "mariadb"."""
        return self._parts.daemons.log(daemon)

    def run(self, *command: object, check: bool = True, timeout: float = 60) -> str:
        """Run a command on this cluster, as its user, and return what it printed.

        Variables that change what Slurm's commands do are not passed on.

        Args:
            command: The program and its arguments.
            check: Raise ClusterError if it fails.
            timeout: Seconds.
        """
        return self._parts.daemons.run(*command, check=check, timeout=timeout)

    def sacctmgr(self, *arguments: object) -> str:
        """Run sacctmgr without questions, output as with --parsable2."""
        return self._parts.accounting.sacctmgr(*arguments)

    def open_jobs(self) -> list[str]:
        """List the jobs that have not ended: id, state, name."""
        states = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING"
        answer = self.run("squeue", "-a", "-r", "-h", "-t", states, "-o", "%i %T %j")
        return answer.splitlines()

    def end_time_limit(self, job: object) -> None:
        """Let the time limit of a job be over now."""
        # slurmctld refuses a time that has passed, as scontrol's "now" may have when it
        # arrives on a machine that is busy.
        for ahead in (0, 1, 2, 5, 10):
            try:
                self.run("scontrol", "update", f"JobId={job}", f"EndTime=now+{ahead}")
            except ClusterError as error:
                if ahead == 10 or "Invalid time specified" not in str(error):
                    raise
            else:
                return

    def node_state(self, node: str) -> str:
        """Ask slurmctld for the state of a node; a * at its end: it does not answer."""
        return self.run("sinfo", "-a", "-h", "-n", node, "-o", "%T").split()[0]

    def start_controller(self, *, clean: bool = False) -> None:
        """Start slurmctld and wait until it answers.

        Args:
            clean: Forget all jobs.
        """
        parts = self._parts
        layout, options = parts.layout, self.options
        environment = tick_environment(
            layout.directory / "run", options.tick_ms, parts.configuration.version
        )
        command = ["slurmctld", "-f", layout.configuration, *(["-c"] if clean else [])]
        parts.daemons.start("slurmctld", *command, environment=environment)
        self._wait_for_controller()

    def stop_controller(self) -> None:
        """End slurmctld as an administrator does: it saves its state, about 2 s."""
        self._parts.daemons.end("slurmctld", signal.SIGTERM)

    def kill_controller(self) -> None:
        """Kill slurmctld: it loses what happened in the last 5 s."""
        self._parts.daemons.end("slurmctld", signal.SIGKILL)

    def freeze_controller(self) -> None:
        """Stop slurmctld's clock: commands are not refused but wait for an answer."""
        self._parts.daemons.send("slurmctld", signal.SIGSTOP)

    def thaw_controller(self) -> None:
        """Let a frozen slurmctld go on."""
        self._parts.daemons.send("slurmctld", signal.SIGCONT)

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node; slurmctld hears of it a little later."""
        parts = self._parts
        spool = parts.layout.spool(node)
        spool.mkdir(exist_ok=True)
        parts.daemons.hand_over(spool)
        command = ["slurmd", "-f", parts.layout.configuration, "-N", node]
        if self.options.root is not None:
            command += ["-d", self.options.root / "usr/sbin/slurmstepd"]
        parts.daemons.start(f"slurmd.{node}", *command)

    def kill_node(self, node: str) -> None:
        """Kill the slurmd of a node; its jobs go on."""
        self._parts.daemons.end(f"slurmd.{node}", signal.SIGKILL)

    def crash_node(self, node: str) -> None:
        """Kill all there is on a node, as when its power fails."""
        layout = self._parts.layout
        kill(marks(layout, node))

    @property
    def _parts(self) -> Parts:
        if self._started is None:
            raise ClusterError("this cluster does not run: call start() first")
        return self._started

    def _start_daemons(self) -> None:
        start_munge(self._parts)
        if self.options.accounting:
            self._parts.accounting.start()
        self.start_controller()
        for node in self.node_names:
            self.start_node(node)
        for node in self.node_names:
            self._wait_for_node(node)

    def _wait_for_controller(self) -> None:
        # Asked before it listens, a command pauses for a second before it tries again.
        port = self._parts.layout.first_port
        self._parts.daemons.wait_until(lambda: listens(port), "slurmctld")
        self.run("sinfo")

    def _wait_for_node(self, node: str) -> None:
        self._parts.daemons.wait_until(
            lambda: self.node_state(node) in _USABLE, f"slurmd.{node}"
        )
