"""The directory of a run: what all its submissions have in common."""

from __future__ import annotations

import contextlib
import marshal
import os
import pkgutil
import random
import time
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

from slurm_futures import node
from slurm_futures.node.start import BUNDLE
from slurm_futures.runs.files import (
    is_ours_alone,
    is_there,
    read_ours,
    remove_tree,
    write_file,
    write_json,
)
from slurm_futures.runs.place import make_directory
from slurm_futures.runs.submission import SubmissionDirectory


class RunDirectory:
    """All submissions of one executor."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, directory: Path, label: str) -> RunDirectory:
        """Make an empty run below `directory`, which `fill` makes usable.

        Raises:
            OSError: it cannot be made; nothing is left of it.
        """
        _programs()
        make_directory(directory)
        # First what fails without a trace where this process has no descriptor left.
        os.close(os.open(directory, os.O_RDONLY))
        return cls(_make_unique(directory, label))

    def fill(self) -> RunDirectory:
        """Write what all its jobs need, or what is missing of it; return the run.

        Raises:
            OSError: it cannot be written; once more may help.
        """
        for name, content in _programs().items():
            write_file(self.path / name, content)
        self.logs.mkdir(0o700, exist_ok=True)
        return self

    def is_complete(self) -> bool:
        """Whether a job of this run would find its worker.

        A run that somebody deleted may be there again, empty: Slurm makes the missing
        directory of a job's log (26.05). One that belongs to somebody else, or to which
        others may write, no job uses.

        Raises:
            OSError: nobody can tell now.
        """
        needed = self.path, self.path / "start.py", self.path / BUNDLE
        return all(map(is_ours_alone, needed))

    @property
    def logs(self) -> Path:
        """Where Slurm's own words about the jobs are."""
        return self.path / "logs"

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Write run.json."""
        write_json(self.path / "run.json", facts)

    def submission(self, number: int) -> SubmissionDirectory:
        """Return the submission of this number, which may not exist yet."""
        return SubmissionDirectory(self.path / f"{number:04}", self.logs)

    def entries(self) -> Iterator[Path]:
        """Yield the submissions and pools that lie in the run.

        Raises:
            OSError: it cannot be listed now.
        """
        with contextlib.suppress(FileNotFoundError):
            for path in self.path.iterdir():
                if path.name.isdigit() or path.name.startswith("pool-"):
                    yield path

    def has_rests(self) -> bool:
        """Whether this has been a run, of which parts are gone."""
        with contextlib.suppress(OSError):
            return is_there(self.path / BUNDLE) or any(self.entries())
        return False

    def remove(self) -> None:
        """Delete the whole run."""
        remove_tree(self.path)

    def remove_empty_logs(self) -> None:
        """Delete the logs in which Slurm had nothing to say."""
        with contextlib.suppress(OSError), os.scandir(self.logs) as entries:
            for entry in entries:
                if entry.stat().st_size == 0:
                    Path(entry.path).unlink(missing_ok=True)


def find_run(directory: str, name: str) -> Path | None:
    """Return the directory of a run by its name, or by a path; None: there is none."""
    with contextlib.suppress(OSError, ValueError):
        for path in (Path(directory) / name, Path(name)):
            if is_there(path):
                return path.absolute()
    return None


def runs_in(directory: str) -> list[Path]:
    """Return the directories that may be runs."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(Path(directory).absolute().iterdir())
    return []


@cache
def _programs() -> dict[str, bytes]:
    """Return the files of the room `node`, by their names, and the bundle of them."""
    names = [f"{each.name}.py" for each in pkgutil.iter_modules(node.__path__)]
    sources = {name: read_ours(name) for name in names}
    codes = {
        Path(name).stem: marshal.dumps(compile(source, name, "exec", dont_inherit=True))
        for name, source in sources.items()
        if name != "start.py"
    }
    return {**sources, BUNDLE: MAGIC_NUMBER + marshal.dumps(codes)}


def _make_unique(directory: Path, label: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    while True:
        suffix = "".join(random.choices("abcdefghjkmnpqrstuvwxyz23456789", k=4))  # noqa: S311  (a name, not a secret)
        path = directory / f"{stamp}-{label}-{suffix}"
        try:
            path.mkdir(0o700)
        except FileExistsError:
            continue
        return path
