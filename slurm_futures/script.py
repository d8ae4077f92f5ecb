"""The script of a submission: sbatch's options, and the rendering of templates.

Options keep sbatch's own long names, with underscores for dashes, and their values are
not looked at: sbatch knows best. The only module that imports Jinja2.
"""

from __future__ import annotations

import difflib
import operator
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, SupportsIndex

import jinja2

from slurm_futures.errors import OptionError, is_passing, words_of

OptionValue = str | SupportsIndex | float | bool | os.PathLike[str] | None

#: Options that the library sets itself, and what to use instead.
_RESERVED = {
    "array": "map() makes job arrays, max_workers= limits how many jobs run at once",
    "chdir": "calls run in the directory in which the program runs; use os.chdir",
    "error": "each job has its own file, see SlurmFuture.stderr()",
    "help": "see the manual page sbatch(1)",
    "ignore_pbs": "the script holds no directives",
    "input": "calls read nothing; pass what they need as arguments",
    "open_mode": "the files of a job are always appended to",
    "output": "each job has its own file, see SlurmFuture.stdout()",
    "parsable": "SlurmFuture.job_id is the id of the job",
    "quiet": "sbatch prints nothing to your terminal",
    "test_only": "nothing would be submitted",
    "usage": "see the manual page sbatch(1)",
    "version": "see 'sbatch --version'",
    "wait": "use Future.result() or shutdown(wait=True)",
    "wrap": "submit a function; setup= takes shell lines that come before it",
}

#: Long options of sbatch, Slurm 20.11 to 26.05 (sbatch(1)).
_KNOWN = frozenset(
    """
    account acctg_freq batch bb bbf begin bell cluster clusters cluster_constraint
    comment constraint consolidate_segments container container_id contiguous
    core_spec cores_per_socket cpu_freq cpus_per_gpu cpus_per_task deadline
    delay_boot dependency distribution exclude exclusive export export_file
    extra extra_node_info get_user_env gid gpu_bind gpu_freq gpus gpus_per_node
    gpus_per_socket gpus_per_task gres gres_flags hint hold job_name kill_on_invalid_dep
    licenses mail_type mail_user mcs_label mem mem_bind mem_per_cpu mem_per_gpu mincpus
    network nice no_kill no_requeue nodefile nodelist nodes ntasks ntasks_per_core
    ntasks_per_gpu ntasks_per_node ntasks_per_socket oom_kill_step overcommit
    oversubscribe partition power prefer priority profile propagate qos reboot
    requeue resv_ports reservation segment signal sockets_per_node spread_job
    spread_segments stepmgr switches thread_spec threads_per_core time time_min tmp
    tres_bind tres_per_task uid use_min_nodes verbose wait_all_nodes wckey
    """.split()
)


@dataclass(frozen=True, slots=True)
class SbatchOptions:
    """The user's options for sbatch, checked by name; equal options share jobs."""

    #: Names and values as text; True stands for an option without a value.
    items: tuple[tuple[str, str | Literal[True]], ...] = ()

    @classmethod
    def check(cls, options: Mapping[str, OptionValue]) -> SbatchOptions:
        """Keep what is set; None and False mean that an option is not given.

        Raises:
            OptionError: an option is unknown, belongs to the library, or has a value
                that is no text, number or True.
        """
        items = []
        for name, value in sorted(options.items()):
            _check_name(name)
            if value is None or value is False:
                continue
            items.append((name, _check_value(name, value)))
        return cls(tuple(items))

    def replace(self, options: Mapping[str, OptionValue]) -> SbatchOptions:
        """Return these options with others in the place of those of the same name."""
        return self.check({**dict(self.items), **options})

    def get(self, name: str) -> str | Literal[True] | None:
        """Return the value of an option, or None."""
        return dict(self.items).get(name)


def _check_name(name: str) -> None:
    if name in _RESERVED:
        raise OptionError(
            f"The option {name!r} of sbatch is used by slurm_futures itself. "
            f"Leave it out: {_RESERVED[name]}."
        )
    if name in _KNOWN:
        return
    close = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "see sbatch(1) for its options."
    raise OptionError(
        f"SlurmExecutor has no option {name!r}, and sbatch has no "
        f"'--{name.replace('_', '-')}'. Options of sbatch are written with their long "
        f"names, with underscores: {hint}"
    )


def _check_value(name: str, value: OptionValue) -> str | Literal[True]:
    if value is True:
        return True
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        value = str.__str__(value)  # of an Enum with text the text
    elif isinstance(value, SupportsIndex):  # as the integers of NumPy
        value = str(operator.index(value))
    elif isinstance(value, float):
        value = str(float(value))
    else:
        raise OptionError(
            f"The option {name!r} has the value {value!r}. Write it as on the command "
            f'line of sbatch, as text or number: {name}="...".'
        )
    if "\0" in value or len(value) > 100_000 or not _can_be_encoded(value):
        raise OptionError(f"The value of the option {name!r} is not a line of text.")
    return value


def _can_be_encoded(text: str) -> bool:
    """Whether a command or a file can hold a text."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class ScriptTemplate:
    """How the script of each submission is made.

    Attributes:
        python: the words of the command that starts Python on the node.
        setup: shell lines that come before it.
        template: file of a Jinja2 template that extends ours (`{% extends base %}`).
        srun: start the worker as a job step, with srun.
    """

    python: tuple[str, ...]
    setup: tuple[str, ...] = ()
    template: Path | None = None
    srun: bool = False

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
            "run": str(run),
            "submission": str(submission),
            "block_size": block_size,
            "requeue": requeue,
            "setup": self.setup,
            "command": shlex.join(words),
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

    def check(self) -> None:
        """Render once, to find a mistake in the user's template before it matters.

        Raises:
            OptionError: the template cannot be read or rendered.
        """
        if not any(self.python):
            raise OptionError(
                f"python={self.python!r} starts nothing. Write the command that starts "
                'Python on the nodes: SlurmExecutor(python="python3").'
            )
        if not all(map(_can_be_encoded, self.setup)):
            raise OptionError(f"setup={self.setup!r} cannot be written to a script.")
        here = Path("/")
        self.render(name="", run=here, submission=here, block_size=1, array=True)


@cache
def _environment(directory: Path | None) -> jinja2.Environment:
    loaders: list[jinja2.BaseLoader] = [jinja2.PackageLoader("slurm_futures")]
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


def python_words(python: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    """Return the command that starts Python as words: a path is a single one."""
    if isinstance(python, str | os.PathLike):
        return (os.fspath(python),)
    return tuple(python)


def setup_lines(setup: str | Sequence[str]) -> tuple[str, ...]:
    """Return the shell lines of `setup=`, which may also be one text."""
    return tuple(setup.splitlines()) if isinstance(setup, str) else tuple(setup)
