"""The script of a submission: the rendering of templates.

The only module that imports Jinja2.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from slurm_futures.errors import OptionError, is_passing, shown, words_of
from slurm_futures.runs.files import read_ours
from slurm_futures.schedulers.arguments import can_be_encoded, check_shell, path_text

_DAY = 86_400  #: seconds; bash has no infinity


#: Commands that start a program once for each task, and words with which they do not.
_LAUNCHERS = frozenset(
    "aprun ibrun jsrun mpiexec mpiexec.hydra mpirun orterun prun srun".split()
)
_ONE_TASK = frozenset({"--ntasks=1", "-n1"})


@dataclass(frozen=True, slots=True)
class ScriptTemplate:
    """How the script of each submission is made.

    Attributes:
        python: the words of the command that starts Python on the node.
        setup: shell lines that come before it.
        template: file of a Jinja2 template that extends ours (`{% extends base %}`).
        srun: start the worker as a job step, with srun.
        grace: seconds to wait for a file system that fails.
    """

    python: tuple[str, ...]
    setup: tuple[str, ...] = ()
    template: Path | None = None
    srun: bool = False
    grace: float = 60.0

    def render(
        self,
        *,
        name: str,
        run: Path,
        submission: Path,
        block_size: int,
        array: bool,
        requeue: bool = False,
    ) -> str:
        """Return the text of the script.

        Raises:
            OptionError: the template cannot be read or rendered.
        """
        base = "array.sh.j2" if array else "job.sh.j2"
        words = ("srun", "--ntasks=1", *self.python) if self.srun else self.python
        values = {
            "base": base,
            "name": " ".join(name.split()),
            "run": ".." if self._begins_in_place else str(run),
            "submission": str(submission),
            "block_size": block_size,
            "requeue": requeue,
            "setup": self.setup,
            "command": shlex.join(words),
            "grace": math.ceil(min(self.grace, _DAY)),
        }
        if self.template is None:
            return _environment(None).get_template(base).render(values)
        try:
            environment = _environment(self.template.parent)
            text = self.template.read_text("utf-8")
            return environment.from_string(text).render(values)
        except Exception as error:  # whatever its expressions may raise
            if is_passing(error):
                raise
            raise OptionError(
                f"The template {self.template} cannot be used: {words_of(error)}. "
                "Start it with '{% extends base %}' and fill the blocks setup or "
                "run_worker."
            ) from error

    @property
    def _begins_in_place(self) -> bool:
        """Whether Python begins in the submission, as the script does.

        srun, or a container, may begin elsewhere.
        """
        return not self.srun and self.python == (sys.executable,)

    def check(self) -> None:
        """Render once, to find a mistake in the user's template before it matters.

        Raises:
            OptionError: the template cannot be read or rendered.
        """
        launcher = _find_launcher(self.python)
        if launcher is not None:
            raise OptionError(
                f"python={list(self.python)!r} may start several processes with "
                f"{launcher}, each of which would run the call. A call is a single "
                "process: write the command that starts Python alone, "
                'SlurmExecutor(python="python3"), with srun=True if it shall be a job '
                "step. A later release will run calls with ranks."
            )
        for name, words in ("python", self.python), ("setup", self.setup):
            if not all("\0" not in each and can_be_encoded(each) for each in words):
                raise OptionError(f"{name}={words!r} cannot be written to a script.")
        check_shell("setup", self.setup)
        here = Path("/")
        self.render(name="", run=here, submission=here, block_size=1, array=True)


@cache
def _environment(directory: Path | None) -> jinja2.Environment:
    loaders: list[jinja2.BaseLoader] = [jinja2.FunctionLoader(_read_template)]
    if directory is not None:
        loaders.append(jinja2.FileSystemLoader(directory))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=False,  # noqa: S701  (a shell script; `quote` is for its values)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = lambda value: shlex.quote(str(value))
    return environment


def _read_template(name: str) -> str | None:
    """Read a template of ours; None: there is no such one."""
    try:
        return read_ours(name).decode()
    except OSError:
        return None


def _find_launcher(words: Sequence[str]) -> str | None:
    """Return the word by which a command may start several processes, if any."""
    if _ONE_TASK & set(words):
        return None
    names = (word.rpartition("/")[2] for word in words)
    return next((name for name in names if name in _LAUNCHERS), None)


def python_words(python: object) -> tuple[str, ...]:
    """Return the command that starts Python as words: a path is a single one.

    Raises:
        OptionError: it is not a command, or several words in one.
    """
    if isinstance(python, str | os.PathLike):
        word = path_text("python", python)
        if isinstance(python, str) and _is_command_line(word):
            raise OptionError(
                f"python={word!r} would be looked for as one program of this name. "
                f"Write python={word.split()!r}."
            )
        return (word,)
    words = _list_of(python, str, os.PathLike)
    if not words or not words[0]:
        raise OptionError(
            f"python={shown(python)} starts nothing. Write the command that starts "
            'Python on the nodes: python="python3", or its words, '
            'python=["python3", "-O"].'
        )
    return (path_text("python", words[0]), *map(os.fsdecode, words[1:]))


def setup_lines(setup: object) -> tuple[str, ...]:
    """Return the shell lines of `setup=`, which may also be one text.

    Raises:
        OptionError: it is neither text nor a list of texts.
    """
    if isinstance(setup, str):
        return tuple(setup.splitlines())
    lines = _list_of(setup, str)
    if lines is None:
        raise OptionError(
            f"setup={shown(setup)} is neither text nor a list of texts. Write shell "
            'lines: setup="module load gcc", or setup=["module load gcc", '
            '"export A=1"].'
        )
    return tuple(lines)


def _is_command_line(text: str) -> bool:
    """Whether it is a program with arguments, and no program with blanks in its name.

    A path may have blanks, and be there on the nodes only.
    """
    first = text.split()[0]
    is_program = "/" not in first or shutil.which(first) is not None
    return first != text and is_program and shutil.which(text) is None


def _list_of(value: object, *classes: type) -> list[Any] | None:
    """Return the items of a list or the like; None: it is none of these classes."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [*value] if all(isinstance(each, classes) for each in value) else None
    return None
