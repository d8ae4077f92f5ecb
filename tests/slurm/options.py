"""What a test may choose about its cluster."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


def chosen_root() -> Path | None:
    """Tell which release of Slurm `./run releases` tests; None: the installed one."""
    chosen = os.environ.get("SLURM_FUTURES_TEST_SLURM")
    return Path(chosen).absolute() if chosen else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """The size and the settings of a throw-away Slurm; numbers in Slurm's units.

    Attributes:
        nodes: How many slurmds; they are called n1, n2 and so on (see `node_names`).
        cpus: CPUs of each node. More than the machine has is fine.
        memory: MB of each node.
        user: Who runs the daemons and the commands; None: who runs this program.
            Only root can choose somebody else.
        root: A folder with another release of Slurm (usr/sbin, usr/bin, usr/lib and
            slurm/bin with the commands); None: the one that is installed here. Untold,
            SLURM_FUTURES_TEST_SLURM in the environment decides.
        scheduling: "fast" starts a job within a second of its submission, mostly much
            sooner (but not in the first 3 s of slurmctld); "default" is what Slurm does
            untold: up to 3 s, and half the jobs per second.
        tick_ms: slurmctld looks for new jobs every so many milliseconds instead of
            once a second, and 22.05 at time limits once a second instead of every
            30 s; None: leave it alone. For quick tests, never for a published
            latency. Ignored without a C compiler.
        min_job_age: Seconds until slurmctld forgets a job that ended.
        max_array_size: One more than the highest index of an array task.
        max_array_tasks: How many tasks one job array may have; None: max_array_size.
        max_job_count: How many jobs slurmctld holds at once.
        kill_wait: Seconds between SIGTERM and SIGKILL.
        message_timeout: Seconds until a command gives up on slurmctld.
        slurmd_timeout: Seconds until a silent node counts as down.
        preemption: Adds a partition "urgent" whose jobs push away those of "debug",
            which are cancelled or requeued.
        memory_enforcement: "cgroup" ends jobs as OUT_OF_MEMORY (root only); "poll"
            kills them once a second, as FAILED; "none" lets them be.
        accounting: Start slurmdbd with a MariaDB of its own: sacct, accounts, QOS.
        accounting_enforce: AccountingStorageEnforce, for example "limits,qos".
        scheduler_parameters: More words for SchedulerParameters.
        extra_lines: More lines of slurm.conf, partitions for example. The last one wins
            where a setting appears twice.
    """

    nodes: int = 4
    cpus: int = 8
    memory: int = 8000
    user: str | None = None
    root: Path | None = field(default_factory=chosen_root)
    scheduling: Literal["fast", "default"] = "fast"
    tick_ms: int | None = 50
    min_job_age: int = 300
    max_array_size: int = 100_001
    max_array_tasks: int | None = None
    max_job_count: int = 200_000
    kill_wait: int = 2
    message_timeout: int = 10
    slurmd_timeout: int = 300
    preemption: Literal["none", "cancel", "requeue"] = "none"
    memory_enforcement: Literal["none", "cgroup", "poll"] = "none"
    accounting: bool = False
    accounting_enforce: str = ""
    scheduler_parameters: tuple[str, ...] = ()
    extra_lines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could not work, where the caller can see it."""
        if not 1 <= self.nodes <= 90:
            raise ValueError(f"nodes={self.nodes}: a block of ports serves 1 to 90")
        if self.accounting_enforce and not self.accounting:
            raise ValueError("accounting_enforce needs accounting=True")
