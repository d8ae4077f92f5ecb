"""Limits of memory by cgroups: whether this machine has them, and what Slurm leaves."""

import contextlib
import os
from pathlib import Path

from tests.waiting import becomes_true

_TOP = Path("/sys/fs/cgroup")
_REMOVAL_TIMEOUT = 60  #: seconds


def cgroup_available() -> str | None:
    """Tell why Slurm cannot limit memory by cgroups here; None: it can."""
    if os.geteuid() != 0:
        return "needs root: an ordinary user may not make cgroups"
    if cgroup_memory() is None:
        return "needs a memory controller in a writable /sys/fs/cgroup"
    return None


def cgroup_memory() -> str | None:
    """Tell which cgroup hierarchy has the memory controller: "v1", "v2" or None."""
    if os.access(_TOP / "memory/cgroup.procs", os.W_OK):
        return "v1"
    control = _TOP / "cgroup.subtree_control"
    if os.access(control, os.W_OK) and "memory" in control.read_text():
        return "v2"
    return None


def remove_cgroups(node_prefix: str) -> None:
    """Remove the cgroups of nodes with this prefix; their processes must have ended.

    Raises:
        OSError: Some are still in use.
    """
    patterns = (f"*/slurm_{node_prefix}*", f"system.slice/{node_prefix}*")
    found = [cgroup for pattern in patterns for cgroup in _TOP.glob(pattern)]
    if not becomes_true(lambda: all(map(_is_removed, found)), _REMOVAL_TIMEOUT):
        raise OSError(f"cgroups are still in use: {found}")


def _is_removed(cgroup: Path) -> bool:
    for directory, _, _ in os.walk(cgroup, topdown=False):
        # It may be busy for a moment after the end of its last process.
        with contextlib.suppress(OSError):
            Path(directory).rmdir()  # the files in it are the kernel's and go with it
    return not cgroup.exists()
