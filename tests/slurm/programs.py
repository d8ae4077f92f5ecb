"""Which programs a cluster is made of, where they are, and what is missing here."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SLURM = (
    *("munged", "slurmctld", "slurmd"),
    *("sbatch", "squeue", "scancel", "sinfo", "scontrol"),
)
_ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "sacctmgr")
_CGROUPS = Path("/sys/fs/cgroup")
_COMMAND_TIMEOUT = 10  #: seconds

# Daemons are in sbin, which an ordinary user seldom has on PATH.
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")


@dataclass(frozen=True, slots=True)
class Programs:
    """Finds the programs of the installed Slurm, or of another release in a folder.

    Attributes:
        root: The folder of the other release; munge and MariaDB are the installed ones.
    """

    root: Path | None = None

    @property
    def path(self) -> str:
        """PATH for the commands and the daemons."""
        capacity = [os.environ.get("PATH", os.defpath), *_SBIN]
        if self.root is not None:
            # Slurm's commands alone: the other programs there lack their libraries.
            capacity.insert(0, str(self.root / "slurm/bin"))
        return os.pathsep.join(capacity)

    def find(self, name: str) -> str:
        """Tell the path of a program.

        Raises:
            FileNotFoundError: It is not there.
        """
        if self.root is not None and name.startswith("slurm"):
            return str(self.root / "usr/sbin" / name)
        found = shutil.which(name, path=self.path)
        if found is None:
            raise FileNotFoundError(f"the program {name!r} is not on PATH")
        return found

    def version(self) -> tuple[int, int]:
        """Ask slurmctld for its release: (22, 5) for 22.05."""
        said = subprocess.run(
            [self.find("slurmctld"), "-V"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_COMMAND_TIMEOUT,
        ).stdout
        match = re.search(r"(\d+)\.(\d+)", said)
        if match is None:
            raise ValueError(f"slurmctld -V says no version: {said!r}")
        return int(match[1]), int(match[2])

    def plugins(self) -> Path | None:
        """Tell where the other release has its plugins; None: where Slurm expects."""
        if self.root is None:
            return None
        return next(self.root.glob("usr/lib/*/slurm-wlm"))


def slurm_available() -> str | None:
    """Tell why no Slurm can be started here, and how to change that; None: it can."""
    packages = "slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins"
    return _reason(_SLURM, "Slurm", packages) or _no_cgroups()


def accounting_available() -> str | None:
    """Tell why no accounting can be started here; None: it can."""
    return slurm_available() or _reason(
        _ACCOUNTING, "Slurm's accounting", "slurmdbd mariadb-server"
    )


def _no_cgroups() -> str | None:
    """Tell whether slurmd would not start since it finds no cgroups."""
    if any(_CGROUPS.iterdir() if _CGROUPS.is_dir() else ()):
        return None
    return f"needs Slurm's cgroups: mount -t cgroup2 none {_CGROUPS}"


def _reason(names: tuple[str, ...], what: str, packages: str) -> str | None:
    path = Programs().path
    missing = [name for name in names if shutil.which(name, path=path) is None]
    if not missing:
        return None
    return f"needs {what}: apt-get install {packages} (not found: {', '.join(missing)})"
