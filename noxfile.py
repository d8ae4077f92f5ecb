"""What there is to run, each in an environment of its own that is kept in .nox/.

`./run` prepares nox and calls it. By hand: `.nox/nox/bin/nox --session lint`. The
reports of the tests stay in build/checks/.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"

_BUILD = Path("build").absolute()
_RELEASES = ("20.11", "24.11", "26.05")  # see tests/slurm/slurm_root.sh
_NEWEST = 20  # of Python 3: those that do not exist yet are not found
_LIMIT = "2400"  #: seconds; a hang must not look like patience

# Most tests wait most of their time: more processes than cores. What depends on the
# Python is little beside all tiers, and needs fewer to be done at the same time.
_PROCESSES = "8"
_PROCESSES_OF_OTHERS = "2"

_SWEEP = """
from slurm_futures import SlurmExecutor
with SlurmExecutor(scheduler="local") as executor:
    assert list(executor.map(pow, [2, 3, 4], [5, 2, 3])) == [32, 9, 64]
"""


def _other_pythons() -> Iterator[str]:
    """Find the Pythons besides this one that the package supports.

    Links to them go first on PATH: pyenv's commands do not run all that it has.
    """
    links = Path(".nox/pythons").absolute()
    links.mkdir(parents=True, exist_ok=True)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for minor in set(range(11, _NEWEST)) - {sys.version_info.minor}:
        name = f"python3.{minor}"
        installed = map(str, pyenv.glob(f"versions/3.{minor}.*/bin/{name}"))
        for python in filter(None, (shutil.which(name), *installed)):
            if _runs(python):
                if not (links / name).exists():
                    (links / name).unlink(missing_ok=True)  # it points to nothing
                    (links / name).symlink_to(python)
                yield f"3.{minor}"
                break
    os.environ["PATH"] = f"{links}{os.pathsep}{os.environ['PATH']}"


def _runs(python: str) -> bool:
    command = [python, "-c", "import venv"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest, which must end in time, with a report in build/."""
    session.run(
        *("timeout", "--foreground", "--signal=INT", "--kill-after=60", _LIMIT),
        *("pytest", "--quiet", f"--junitxml=build/checks/{session.name}.xml"),
        *arguments,
        external=True,
    )


def _package_files() -> set[str]:
    """Name all that the package consists of."""
    files = (path for path in Path("slurm_futures").rglob("*") if path.is_file())
    return {str(path) for path in files if "__pycache__" not in path.parts}


@nox.session(tags=["check"], allow_parallel=True)
def tests(session: nox.Session) -> None:
    """Run the tests of all tiers with coverage; or pytest with the arguments given."""
    session.install("--editable", ".[dev,clients]")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    coverage = ("--cov", "--cov-report=term:skip-covered")
    _pytest(session, f"-n{_PROCESSES}", *coverage)


@nox.session(tags=["check"], allow_parallel=True, python=list(_other_pythons()))
def others(session: nox.Session) -> None:
    """Run the tests that need no Slurm on another Python, each in one kind of jobs."""
    session.install("--editable", ".[dev,clients]")
    _pytest(session, f"-n{_PROCESSES_OF_OTHERS}", "-mnot cluster and not job_each")


@nox.session(tags=["check"], allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Look at format and style."""
    session.install("ruff>=0.6")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session(tags=["check"], allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check the types."""
    session.install("--editable", ".[dev]")
    session.run("mypy")


@nox.session(tags=["check"], allow_parallel=True)
def package(session: nox.Session) -> None:
    """Build the package: it is complete, and a sweep works from the wheel alone."""
    session.install("build", "hatchling")
    distributions = Path(session.create_tmp(), "dist").absolute()
    shutil.rmtree(distributions, ignore_errors=True)
    session.run(
        *("python", "-m", "build", "--no-isolation", "--outdir", str(distributions)),
        silent=True,
    )
    (wheel,) = distributions.glob("*.whl")
    missing = _package_files() - set(zipfile.ZipFile(wheel).namelist())
    if missing:
        session.error(f"the wheel has no {', '.join(sorted(missing))}")
    session.install("--reinstall-package", "slurm-futures", str(wheel))
    with session.chdir(session.create_tmp()):
        session.run("slurm-futures", "--version")
        session.run("python", "-c", _SWEEP)
        demo = ("-m", "slurm_futures", "demo", "--local", "--points", "3x2")
        session.run("python", *demo, "--seeds", "2")


@nox.session
def demo(session: nox.Session) -> None:
    """Run a real parameter sweep."""
    session.install("--editable", ".")
    session.run("python", "-m", "slurm_futures", "demo", *session.posargs)


@nox.session(python=False)
def releases(session: nox.Session) -> None:
    """Run the tests of the cluster tier on other releases of Slurm."""
    reports = []
    for release in session.posargs or _RELEASES:
        root = _BUILD / f"slurm-{release}"
        reports.append(f"{root}.xml")
        Path(reports[-1]).unlink(missing_ok=True)
        session.run("tests/slurm/slurm_root.sh", release, str(root))
        session.run(
            *(".nox/tests/bin/python", "-m", "pytest", "-mcluster"),
            *("tests/cluster", "tests/slurm"),
            *(f"-n{_PROCESSES}", f"--junitxml={reports[-1]}"),
            env={"SLURM_FUTURES_TEST_SLURM": str(root)},
            success_codes=[0, 1],
        )
    for report in reports:
        session.log(report)
        session.run(sys.executable, "-m", "tests.slurm.report", report)
