"""A virtual environment with the other libraries, and runs of `peer_calls` in it.

The environment is made once and kept: below ~/.cache, or where --environment says. A
library that cannot be installed, or fails, is told of and left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

from benchmarks import peer_calls
from benchmarks.common import tell

DEFAULT_DIRECTORY = "~/.cache/slurm_futures/peers"

#: What pip installs for each library; the first one is the library.
PACKAGES = {
    "submitit": ("submitit",),
    "clusterfutures": ("clusterfutures",),
    "cluster_tools": ("cluster_tools", "setuptools"),
    "executorlib": ("executorlib", "pysqa", "h5py"),
    "dask_jobqueue": ("dask-jobqueue",),
    "parsl_htex": ("parsl",),
}
#: What needs nothing but this repository and the standard library.
OURS = ("slurm_futures", "process_pool")

_INSTALL_TIMEOUT = 600.0  # seconds

Figures = dict[str, float]


class PeerEnvironment:
    """Runs the work of a benchmark on each library, in a process of its own.

    Args:
        directory: of the virtual environment; it is made if it is not there.
        names: of the libraries that are to be there.

    Attributes:
        versions: of all libraries that could be installed.
    """

    def __init__(self, directory: str, names: tuple[str, ...]) -> None:
        self._directory = Path(directory).expanduser().absolute()
        self._python = self._directory / "bin/python"
        self.versions: dict[str, str] = {}
        if not self._python.exists():
            tell(f"making {self._directory}")
            venv.create(self._directory, with_pip=True)
        for name in names:
            if name in PACKAGES:
                self._install(name)

    def _install(self, name: str) -> None:
        packages = PACKAGES[name]
        if not packages_are_in(self._list(), packages):
            tell(f"installing {' '.join(packages)}")
            command = [str(self._python), "-m", "pip", "install", "--quiet", *packages]
            subprocess.run(command, check=False, timeout=_INSTALL_TIMEOUT)
        installed = self._list()
        if packages_are_in(installed, packages):
            self.versions[name] = installed[normal(packages[0])]

    def _list(self) -> dict[str, str]:
        answer = subprocess.run(
            [self._python, "-m", "pip", "list", "--format=json"],
            check=True,
            capture_output=True,
        )
        return {
            normal(each["name"]): each["version"] for each in json.loads(answer.stdout)
        }

    def label(self, name: str) -> str:
        """Return the name of a library with its version."""
        return f"{name} {self.versions.get(name, '')}".strip()

    def run(self, name: str, kind: str, *numbers: int, timeout: float) -> Figures | str:
        """Measure one library; return the figures, or why there are none.

        Args:
            name: of the library.
            kind: of the work, as `peer_calls` says.
            *numbers: calls and workers.
            timeout: seconds.
        """
        if name not in OURS and name not in self.versions:
            return "not installed"
        directory = Path(f"{name}-{kind}-{time.monotonic_ns()}").absolute()
        directory.mkdir()
        # Some find the module of a function by the place of its file.
        script = shutil.copy(peer_calls.__file__, directory)
        python = sys.executable if name in OURS else str(self._python)
        command = [python, script, name, kind, *map(str, numbers)]
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=self._variables(python, directory),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"no end after {timeout:g} s"
        finally:
            # Whatever it has started: parsl's interchange outlives its program.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = output.splitlines()
        if process.returncode != 0 or not lines:
            tell(errors[-2000:])
            return f"failed: {(errors.splitlines() or ['?'])[-1][:60]}"
        figures: Figures = json.loads(lines[-1])
        return figures

    def _variables(self, python: str, directory: Path) -> dict[str, str]:
        """Return the environment as after `activate`."""
        root = str(Path(__file__).parents[1])
        path = root if python == sys.executable else str(directory)
        bin_ = os.path.dirname(python)  # noqa: PTH120  (a link stays what it is)
        search = f"{bin_}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": search, "PYTHONPATH": path}


def normal(name: str) -> str:
    """Return the name of a package as pip compares it."""
    return name.lower().replace("_", "-")


def packages_are_in(installed: dict[str, str], packages: tuple[str, ...]) -> bool:
    """Whether all of these packages are installed."""
    return all(normal(package) in installed for package in packages)
