"""The text of slurm.conf, cgroup.conf and slurmdbd.conf; starts and writes nothing.

Works for Slurm 20.11 to 26.05. Where "none" is the default of a setting it is not
written: later releases no longer know the plugins of that name.
"""

import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.slurm.cgroup import cgroup_memory
from tests.slurm.layout import Layout
from tests.slurm.options import ClusterOptions

# Untold, slurmctld collects jobs for 3 s before it looks at them: batch_sched_delay and
# sched_min_interval in slurm.conf(5).
_FAST = (
    "sched_min_interval=0",
    "batch_sched_delay=0",
    "sched_interval=1",
    "bf_interval=1",
)
_FIRST_NODE_PORT = 10  #: from the first port of the block


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that the files depend on.

    Attributes:
        user: Who runs the daemons.
        version: Slurm's release, (22, 5) for 22.05.
        plugins: Where the plugins are; None: where Slurm expects them.
    """

    options: ClusterOptions
    layout: Layout
    user: str
    version: tuple[int, int]
    plugins: Path | None = None

    @property
    def accounting_port(self) -> int:
        """Where slurmdbd listens."""
        return self.layout.first_port + 2

    @property
    def database_port(self) -> int:
        """Where MariaDB listens."""
        return self.layout.first_port + 3

    @property
    def node_prefix(self) -> str:
        """What stands before the number of a node.

        Slurm names its cgroups by the node, so that the nodes of two clusters on one
        host must not have the same names.
        """
        if self.options.memory_enforcement == "cgroup":
            return self.layout.unique_node_prefix
        return "n"

    @property
    def node_names(self) -> list[str]:
        """The names of all nodes."""
        return [f"{self.node_prefix}{i}" for i in range(1, self.options.nodes + 1)]

    def slurm_conf(self) -> str:
        """Render slurm.conf."""
        return _lines(
            self._identity(),
            self._files(),
            self._limits(),
            self._scheduling(),
            self._memory_enforcement(),
            self._accounting(),
            self._nodes(),
            self._partitions(),
            self.options.extra_lines,
        )

    def cgroup_conf(self) -> str:
        """Render cgroup.conf, which Slurm reads when a cgroup plugin is chosen."""
        return _lines(
            ["ConstrainRAMSpace=yes", "ConstrainSwapSpace=no", "ConstrainCores=no"],
            self._cgroup_hierarchy(),
        )

    def slurmdbd_conf(self) -> str:
        """Render slurmdbd.conf."""
        layout = self.layout
        return _lines(
            [
                *self._munge(),
                "DbdHost=localhost",
                f"DbdPort={self.accounting_port}",
                f"SlurmUser={self.user}",
                f"LogFile={layout.log('slurmdbd')}",
                f"PidFile={layout.pid_file('slurmdbd')}",
                "StorageType=accounting_storage/mysql",
                "StorageHost=127.0.0.1",
                f"StoragePort={self.database_port}",
                "StorageUser=slurm",
                "StoragePass=slurm",
                "StorageLoc=slurm_acct_db",
            ],
            self._plugins(),
        )

    def _identity(self) -> Iterator[str]:
        # slurmctld refuses to run on a host of another name.
        host = socket.gethostname().split(".")[0]
        yield f"ClusterName={self.layout.cluster_name}"
        yield f"SlurmctldHost={host}(127.0.0.1)"
        yield f"SlurmctldPort={self.layout.first_port}"
        yield f"SlurmdPort={self.layout.first_port + 1}"
        yield f"SlurmUser={self.user}"
        yield f"SlurmdUser={self.user}"
        yield "CredType=cred/munge"
        yield "MailProg=/bin/true"  # else the log says that there is none
        yield from self._munge()

    def _munge(self) -> Iterator[str]:
        yield "AuthType=auth/munge"
        yield f"AuthInfo=socket={self.layout.socket('munged')}"

    def _plugins(self) -> Iterator[str]:
        if self.plugins is not None:
            yield f"PluginDir={self.plugins}"

    def _files(self) -> Iterator[str]:
        layout = self.layout
        yield f"StateSaveLocation={layout.directory / 'state'}"
        yield f"SlurmdSpoolDir={layout.spool('%n')}"
        yield f"SlurmctldPidFile={layout.pid_file('slurmctld')}"
        yield f"SlurmdPidFile={layout.pid_file('slurmd.%n')}"
        yield f"SlurmctldLogFile={layout.log('slurmctld')}"
        yield f"SlurmdLogFile={layout.log('slurmd.%n')}"
        yield from self._plugins()

    def _limits(self) -> Iterator[str]:
        options = self.options
        yield f"MaxArraySize={options.max_array_size}"
        yield f"MaxJobCount={options.max_job_count}"
        yield f"MinJobAge={options.min_job_age}"
        yield f"KillWait={options.kill_wait}"
        yield f"MessageTimeout={options.message_timeout}"
        yield f"SlurmdTimeout={options.slurmd_timeout}"

    def _scheduling(self) -> Iterator[str]:
        words = list(_FAST) if self.options.scheduling == "fast" else []
        if self.options.max_array_tasks is not None:
            words.append(f"max_array_tasks={self.options.max_array_tasks}")
        words += self.options.scheduler_parameters
        if words:
            yield f"SchedulerParameters={','.join(words)}"
        yield "SchedulerType=sched/backfill"
        yield "SelectType=select/cons_tres"
        yield "ReturnToService=2"
        yield "MpiDefault=none"

    def _memory_enforcement(self) -> Iterator[str]:
        match self.options.memory_enforcement:
            case "cgroup":
                yield "ProctrackType=proctrack/cgroup"
                yield "TaskPlugin=task/cgroup"
                yield "JobAcctGatherType=jobacct_gather/cgroup"
            case "poll":
                yield "ProctrackType=proctrack/linuxproc"
                yield "JobAcctGatherType=jobacct_gather/linux"
                yield "JobAcctGatherFrequency=1"
                yield "JobAcctGatherParams=OverMemoryKill"
            case "none":
                yield "ProctrackType=proctrack/linuxproc"
                if self.options.accounting:
                    yield "JobAcctGatherType=jobacct_gather/linux"
        kind = "CR_Core" if self._memory_is_free else "CR_Core_Memory"
        yield f"SelectTypeParameters={kind}"

    @property
    def _memory_is_free(self) -> bool:
        return self.options.memory_enforcement == "none"

    def _cgroup_hierarchy(self) -> Iterator[str]:
        if self.version < (21, 8):
            yield "CgroupAutomount=no"
        elif cgroup_memory() == "v2":
            yield "CgroupPlugin=cgroup/v2"
            yield "IgnoreSystemd=yes"
        else:
            yield "CgroupPlugin=cgroup/v1"
        if self.version < (24, 5):
            yield "CgroupMountpoint=/sys/fs/cgroup"

    def _accounting(self) -> Iterator[str]:
        if not self.options.accounting:
            return
        yield "AccountingStorageType=accounting_storage/slurmdbd"
        yield "AccountingStorageHost=localhost"
        yield f"AccountingStoragePort={self.accounting_port}"
        yield f"AccountingStoragePass={self.layout.socket('munged')}"
        if self.options.accounting_enforce:
            yield f"AccountingStorageEnforce={self.options.accounting_enforce}"

    def _nodes(self) -> Iterator[str]:
        options = self.options
        # config_overrides: nodes may have more CPUs and memory than this machine.
        yield "SlurmdParameters=config_overrides"
        first = self.layout.first_port + _FIRST_NODE_PORT
        yield (
            f"NodeName={self.node_prefix}{_span(1, options.nodes)} NodeAddr=127.0.0.1 "
            f"Port={_span(first, options.nodes)} CPUs={options.cpus} "
            f"RealMemory={options.memory} State=UNKNOWN"
        )

    def _partitions(self) -> Iterator[str]:
        options = self.options
        common = "Nodes=ALL MaxTime=INFINITE State=UP"
        if not self._memory_is_free:
            common += f" DefMemPerCPU={options.memory // options.cpus}"
        if options.preemption == "none":
            yield f"PartitionName=debug Default=YES {common}"
            return
        yield "PreemptType=preempt/partition_prio"
        yield f"PreemptMode={options.preemption.upper()}"
        yield f"PartitionName=debug Default=YES PriorityTier=1 {common}"
        yield f"PartitionName=urgent PriorityTier=10 PreemptMode=OFF {common}"


def _span(first: int, count: int) -> str:
    """Write a range of numbers as Slurm does: 1 or [1-4]."""
    return str(first) if count == 1 else f"[{first}-{first + count - 1}]"


def _lines(*parts: Iterable[str]) -> str:
    return "".join(f"{line}\n" for part in parts for line in part)
