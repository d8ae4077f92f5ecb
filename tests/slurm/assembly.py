"""Puts a cluster's directory together, and ends everything that runs in one."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.slurm import processes
from tests.slurm.accounting import Accounting
from tests.slurm.cgroup import remove_cgroups
from tests.slurm.configuration import Configuration
from tests.slurm.daemons import ClusterError, Daemons
from tests.slurm.layout import Claim, Layout
from tests.slurm.options import ClusterOptions
from tests.slurm.programs import Programs

_KEY_SIZE = 128  #: bytes


@dataclass(frozen=True, slots=True)
class Parts:
    """What a started cluster consists of."""

    claim: Claim
    configuration: Configuration
    daemons: Daemons
    accounting: Accounting

    @property
    def layout(self) -> Layout:
        """The names in its directory."""
        return self.claim.layout


def assemble(options: ClusterOptions, claim: Claim) -> Parts:
    """Write all files that the daemons need; start none."""
    layout = claim.layout
    programs = Programs(options.root)
    daemons = Daemons(layout, programs, options.user)
    configuration = Configuration(
        options, layout, daemons.user, programs.version(), programs.plugins()
    )
    _make_directories(layout, daemons)
    _write_munge_key(layout, daemons)
    _write(layout.configuration, configuration.slurm_conf())
    if options.memory_enforcement == "cgroup":
        cgroup_conf = layout.configuration.with_name("cgroup.conf")
        _write(cgroup_conf, configuration.cgroup_conf())
    return Parts(claim, configuration, daemons, Accounting(configuration, daemons))


def start_munge(parts: Parts) -> None:
    """Start the daemon that the others trust."""
    layout = parts.layout
    parts.daemons.start(
        "munged",
        "munged",
        "--force",  # it dislikes /tmp, which everybody can write to
        f"--key-file={layout.munge_key}",
        f"--socket={layout.socket('munged')}",
        f"--pid-file={layout.pid_file('munged')}",
        f"--log-file={layout.log('munged')}",
        f"--seed-file={layout.directory / 'run/munge.seed'}",
        "--num-threads=4",
    )


def marks(layout: Layout, node: str | None = None) -> processes.Marks:
    """Tell how to recognise the processes of a cluster, or of one of its nodes."""
    variables = {f"SLURM_CLUSTER_NAME={layout.cluster_name}".encode()}
    if node is None:
        paths = tuple(layout.directory / name for name in ("log", "spool", "database"))
        return processes.Marks(paths, frozenset(variables))
    variables.add(f"SLURMD_NODENAME={node}".encode())
    node_paths = (layout.log(f"slurmd.{node}"), layout.spool(node))
    return processes.Marks(node_paths, frozenset(variables))


def kill(these: processes.Marks) -> None:
    """Kill all processes with these marks.

    Raises:
        ClusterError: Some survive it.
    """
    left = processes.kill_all(partial(processes.find, these))
    if left:
        commands = [f"{pid} ({processes.command_line(pid)})" for pid in left]
        raise ClusterError(f"processes survive SIGKILL: {', '.join(commands)}")


def end_processes(layout: Layout) -> None:
    """Kill everything that runs in this directory."""
    kill(marks(layout))
    remove_cgroups(layout.unique_node_prefix)


def end(claim: Claim) -> None:
    """Kill everything, and give directory and ports back."""
    try:
        end_processes(claim.layout)
    finally:
        claim.release()


# Modes are set, whatever the umask: jobs of all users come here.
def _make_directories(layout: Layout, daemons: Daemons) -> None:
    for directory in layout.subdirectories():
        directory.mkdir()
        directory.chmod(0o755)
        daemons.hand_over(directory)
    layout.directory.chmod(0o755)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _write_munge_key(layout: Layout, daemons: Daemons) -> None:
    layout.munge_key.touch(mode=0o600)
    layout.munge_key.write_bytes(os.urandom(_KEY_SIZE))
    daemons.hand_over(layout.munge_key)
