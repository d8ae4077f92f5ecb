"""Programs of users without a name: no entry in passwd, HOME and USER are not set."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm import SlurmCluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes other users"),
]

PATIENCE = 60  #: seconds
_ROOT = Path(__file__).parents[2]
_NOBODY_KNOWS = 54321

_HEAD = """
import logging, os, sys, time
from slurm_futures import SlurmExecutor
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
assert not {"HOME", "USER", "LOGNAME"} & os.environ.keys()
options = {"directory": "runs", "poll_interval": 0.5, "grace": 3, "python": sys.argv[1]}
"""

RunAs = Callable[[int, str], str]


@pytest.fixture
def run_as(slurm: SlurmCluster) -> Iterator[RunAs]:
    """Run a program as a user whom this machine knows only by number."""
    if subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("needs mounts of its own, which cannot be made in a chroot")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        _copy_packages(directory / "site")
        python = _find_python(directory)
        passwd = directory / "passwd"
        passwd.write_text("root:x:0:0:root:/root:/bin/sh\n")

        def run(uid: int, text: str) -> str:
            (directory / "program.py").write_text(_HEAD + text)
            os.chown(directory, uid, uid)
            user = f"setpriv --reuid={uid} --regid={uid} --clear-groups"
            command = f"{user} sh -c 'exec {python} program.py {python}'"
            answer = subprocess.run(
                ["unshare", "-m", "sh", "-c", f"{_hide(passwd)} && {command}"],
                capture_output=True,
                text=True,
                cwd=directory,
                env=_environment(directory),
                timeout=PATIENCE,
                check=False,
            )
            assert answer.returncode == 0, answer.stdout + answer.stderr
            return answer.stdout

        yield run


def _hide(passwd: Path) -> str:
    """Return the command that lets this file be passwd, in this mount namespace."""
    return f"mount --bind {passwd} /etc/passwd"


def _copy_packages(site: Path) -> None:
    """Copy ours and what it needs to where other users may read them."""
    installed = Path(sysconfig.get_path("purelib"))
    needed = (installed / name for name in ("cloudpickle", "jinja2", "markupsafe"))
    for package in (_ROOT / "slurm_futures", *needed):
        shutil.copytree(package, site / package.name)


def _environment(directory: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "SLURM_CONF")}
    return {**kept, "PYTHONPATH": str(directory / "site")}


def _find_python(directory: Path) -> str:
    """Return a Python of our version that other users may run, with our packages."""
    found = shutil.which(
        f"python3.{sys.version_info[1]}", path="/usr/local/bin:/usr/bin"
    )
    for python in (sys.executable, found):
        user = f"setpriv --reuid={_NOBODY_KNOWS} --regid=1 --clear-groups sh -c"
        test = f"exec {python} -c 'import slurm_futures.executor'"
        done = subprocess.run(
            [*user.split(), test],
            env=_environment(directory),
            cwd=directory,
            capture_output=True,
            check=False,
        )
        if python and done.returncode == 0:
            return python
    pytest.skip(f"needs Python 3.{sys.version_info[1]} where other users may run it")


def test_a_user_without_a_name_here(run_as: RunAs) -> None:
    """Known on the cluster, not on the client's machine: all is as for others."""
    said = run_as(
        1,  # daemon, on every Debian
        """
with SlurmExecutor(**options) as executor:
    print(executor.submit(os.getuid).result(60))
    print(*executor.map(abs, range(-3, 0), timeout=30))
    future = executor.submit(time.sleep, 60)
    while not future.running():
        time.sleep(0.05)
    print(future.cancel())
    print(executor.submit(os._exit, 3).exception(60))
""",
    )

    lines = said.splitlines()
    assert lines[:3] == ["1", "3 2 1", "True"]
    assert "ended with exit code 3 and left no result" in lines[3]


def test_a_user_whom_nobody_knows(run_as: RunAs) -> None:
    """Slurm cannot start jobs of such a user; a warning says so, the timeout as well.

    slurmctld gives the job no credential, and tries again every two minutes; that of
    26.05 holds it.
    """
    said = run_as(
        _NOBODY_KNOWS,
        """
with SlurmExecutor(**options, pending_timeout=4) as executor:
    error = executor.submit(os.getuid).exception(60)
print(type(error).__name__, error)
""",
    )

    held = "(reason JobHeldAdmin)" in said
    advice = "it is held" if held else "Slurm failed to start it, and tries again"
    reason = "JobHeldAdmin" if held else "BeginTime"
    assert f"waits, and may do so for ever (reason {reason}): {advice}" in said
    assert "PendingTimeout job " in said
    assert advice.lower() in said.splitlines()[-1].lower()
