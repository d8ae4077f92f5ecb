"""Options of sbatch, by their own long names, with underscores for dashes.

Their values are not looked at: sbatch knows best.
"""

from __future__ import annotations

import difflib
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, SupportsIndex

from slurm_futures.errors import OptionError

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
                that is not text, a number or True.
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
    if "\0" in value or len(value) > 100_000 or not can_be_encoded(value):
        raise OptionError(f"The value of the option {name!r} is not a line of text.")
    return value


def can_be_encoded(text: str) -> bool:
    """Whether a command or a file can hold a text."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Kind:
    """What the jobs of one submission have in common."""

    options: SbatchOptions
    cwd: str
