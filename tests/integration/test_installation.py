"""The package as users get it: built, installed, upgraded while jobs wait."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_TIMEOUT = 120  #: seconds
_MISSING = [
    name
    for name in ("build", "hatchling", "pip")
    if importlib.util.find_spec(name) is None
]
_TEMPLATES = {
    "slurm_futures/node/job.sh.j2",
    "slurm_futures/node/array.sh.j2",
}

pytestmark = pytest.mark.skipif(
    bool(_MISSING), reason=f"needs a package: pip install {' '.join(_MISSING)}"
)

_SWEEP = """\
import slurm_futures
from slurm_futures import SlurmExecutor

with SlurmExecutor(scheduler="local", directory="runs") as executor:
    print(list(executor.map(lambda number: number * number, range(3))))
print(slurm_futures.__file__)
"""

# Opening a named pipe waits until its other end is opened too. So the first job keeps
# the second one waiting, and the package changes after the first has started.
_UPGRADE = """\
import os
import sys
from pathlib import Path

import slurm_futures
from slurm_futures import SlurmExecutor

def wait_at(pipe):
    return Path(pipe).read_text()

os.mkfifo("pipe")
pipe = os.path.abspath("pipe")
with SlurmExecutor(1, scheduler="local", directory="runs") as executor:
    running = executor.submit(wait_at, pipe)
    queued = executor.submit(pow, 2, 3)
    with open(pipe, "w") as end:
        for path in Path(slurm_futures.__file__).parent.rglob("*.py"):
            path.write_text("raise ImportError('the other version')")
        end.write("upgraded")
    print(running.result(), queued.result())
"""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both distributions, the wheel from the sdist, and give their directory."""
    directory = tmp_path_factory.mktemp("distributions")
    _run(
        [*"-m build --no-isolation --outdir".split(), str(directory), str(_ROOT)],
        tmp_path_factory.getbasetemp(),
    )
    return directory


@pytest.fixture
def site(distributions: Path, tmp_path: Path) -> Path:
    """Install the wheel to a directory of its own, and give that."""
    site = tmp_path / "site"
    options = "-m pip install --no-deps --no-index --no-compile --target".split()
    _run([*options, str(site), str(_only(distributions, "*.whl"))], tmp_path)
    return site


def test_sdist_has_package_and_tests(distributions: Path) -> None:
    """From the sdist one can build, and test what was built."""
    with tarfile.open(_only(distributions, "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    expected = {"slurm_futures/py.typed", "pyproject.toml", "tests/conftest.py"}
    assert expected | _TEMPLATES <= names


def test_wheel_has_all_of_the_package_and_nothing_else(distributions: Path) -> None:
    """Templates and py.typed are there; tests and benchmarks are not."""
    with zipfile.ZipFile(_only(distributions, "*.whl")) as archive:
        names = set(archive.namelist())

    packages = {name.partition("/")[0] for name in names}
    assert {
        "slurm_futures/py.typed",
        "slurm_futures/node/worker.py",
    } | _TEMPLATES <= names
    assert {one for one in packages if ".dist-info" not in one} == {"slurm_futures"}


def test_installed_package_runs_a_sweep(site: Path, tmp_path: Path) -> None:
    """It works in any directory, with what is in the wheel alone."""
    printed = _run_script(_SWEEP, site, tmp_path)

    assert printed == ["[0, 1, 4]", str(site / "slurm_futures/__init__.py")]


def test_upgrade_does_not_break_jobs_that_wait(site: Path, tmp_path: Path) -> None:
    """Jobs use the copies in their run, whatever is installed when they start."""
    assert _run_script(_UPGRADE, site, tmp_path) == ["upgraded 8"]


def _run_script(source: str, site: Path, tmp_path: Path) -> list[str]:
    """Run a script in a directory of its own; return the lines that it printed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "script.py").write_text(source)
    return _run(["script.py"], elsewhere, PYTHONPATH=str(site)).splitlines()


def _run(arguments: list[str], directory: Path, **variables: str) -> str:
    """Run this Python in a directory; return what it printed."""
    answer = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def _only(directory: Path, pattern: str) -> Path:
    (path,) = directory.glob(pattern)
    return path
