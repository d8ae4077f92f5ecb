"""The directory of a cluster: who owns it, which ports go with it, what lies where.

One mkdir claims both the directory and its ports, since the name tells the ports: of
all programs on this host only one can hold `/tmp/slurm-20100`, and with it the ports
20100 to 20199. The owner holds a lock on a file inside while it lives, so that the next
start can clear away what a killed owner left behind.
"""

import fcntl
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Short, and not TMPDIR: slurmstepd puts sockets below spool/, and the path of a unix
# socket has at most 108 characters.
_PARENT = Path("/tmp")
_BLOCK = 100  #: ports
_FIRST_PORTS = range(20_000, 32_000, _BLOCK)  # below Linux's ephemeral ports

_SUBDIRECTORIES = ("etc", "run", "log", "state", "spool", "database", "work")


@dataclass(frozen=True, slots=True)
class Layout:
    """The names in the directory of one cluster; makes nothing, deletes nothing."""

    directory: Path
    first_port: int

    @property
    def cluster_name(self) -> str:
        """Slurm's ClusterName, the only one of this name on this host."""
        return f"test{self.first_port}"

    @property
    def unique_node_prefix(self) -> str:
        """What the names of nodes can begin with if no other cluster has such nodes."""
        return f"c{self.first_port}n"

    @property
    def configuration(self) -> Path:
        """slurm.conf; cgroup.conf and slurmdbd.conf must lie beside it."""
        return self.directory / "etc/slurm.conf"

    @property
    def munge_key(self) -> Path:
        """What makes the daemons of this cluster trust each other, and nobody else."""
        return self.directory / "etc/munge.key"

    @property
    def work(self) -> Path:
        """Where commands run, and where Slurm puts slurm-1.out."""
        return self.directory / "work"

    def log(self, daemon: str) -> Path:
        """What a daemon writes, "slurmd.n1" for example."""
        return self.directory / "log" / f"{daemon}.log"

    def pid_file(self, daemon: str) -> Path:
        """Where a daemon says its process id."""
        return self.directory / "run" / f"{daemon}.pid"

    def socket(self, daemon: str) -> Path:
        """Where munged and mariadb listen."""
        return self.directory / "run" / f"{daemon}.socket"

    def spool(self, node: str) -> Path:
        """Scripts and sockets of the steps on a node."""
        return self.directory / "spool" / node

    def subdirectories(self) -> Iterator[Path]:
        """All that must exist before the daemons start, but for spool's."""
        return (self.directory / name for name in _SUBDIRECTORIES)


class Claim:
    """A directory and its block of ports, ours until `release`."""

    def __init__(self, layout: Layout, lock: int) -> None:
        self.layout = layout
        self._lock = lock

    def release(self) -> None:
        """Delete the directory and let others have the ports."""
        shutil.rmtree(self.layout.directory, ignore_errors=True)
        os.close(self._lock)


def claim_directory(end_processes: Callable[[Layout], None]) -> Claim:
    """Take a directory whose ports nobody uses.

    Args:
        end_processes: Kills what still runs in a directory whose owner was killed.

    Raises:
        OSError: No block of ports is free.
    """
    clear_abandoned(end_processes)
    for first_port in random.sample(_FIRST_PORTS, len(_FIRST_PORTS)):
        claim = _claim_block(first_port)
        if claim is not None:
            return claim
    raise OSError(f"no free block of {_BLOCK} ports: see {_PARENT}/slurm-*")


def clear_abandoned(end_processes: Callable[[Layout], None]) -> None:
    """End the clusters whose owners were killed before they could."""
    for first_port in _FIRST_PORTS:
        layout = _layout(first_port)
        if not _is_ours(layout.directory):
            continue
        lock = _lock(layout.directory, create=False)
        if lock is not None:
            end_processes(layout)
            Claim(layout, lock).release()


def _claim_block(first_port: int) -> Claim | None:
    layout = _layout(first_port)
    try:
        layout.directory.mkdir()
    except FileExistsError:
        return None
    lock = _lock(layout.directory, create=True)
    if lock is None:
        return None  # somebody took the empty directory for an abandoned one
    claim = Claim(layout, lock)
    if not _ports_are_free(first_port):
        claim.release()
        return None
    return claim


def _layout(first_port: int) -> Layout:
    return Layout(_PARENT / f"slurm-{first_port}", first_port)


def _is_ours(directory: Path) -> bool:
    try:
        return directory.lstat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def _lock(directory: Path, *, create: bool) -> int | None:
    """Lock the directory's lock file; None when another program holds it."""
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    try:
        lock = os.open(directory / "lock", flags, 0o600)
    except OSError:
        return None  # its owner is about to create it, or just deleted it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if os.fstat(lock).st_nlink == 0:  # deleted between our open and our lock
        os.close(lock)
        return None
    return lock


def _ports_are_free(first_port: int) -> bool:
    return all(_is_free(port) for port in range(first_port, first_port + _BLOCK))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Slurm does it: closed connections that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
