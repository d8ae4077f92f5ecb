"""Options of sbatch, by their own long names, with underscores for dashes.

Their values are hardly looked at: sbatch knows best. Only what it would misunderstand,
what no release of it takes, or what a call could not use, is translated or refused.
"""

from __future__ import annotations

import math
import operator
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, SupportsIndex

from slurm_futures.errors import OptionError, shown
from slurm_futures.schedulers.arguments import can_be_encoded
from slurm_futures.schedulers.option_names import refusal_of
from slurm_futures.schedulers.quantities import format_time, translate_time

OptionValue = (
    str
    | SupportsIndex
    | float
    | bool
    | os.PathLike[str]
    | timedelta
    | list[str]
    | tuple[str, ...]
    | None
)
#: Options that may be given as a list, which sbatch separates by commas.
_LISTS = frozenset(
    """
    clusters exclude export gres licenses mail_type nodelist partition profile propagate
    """.split()
)
_TIMES = frozenset({"time", "time_min"})
_MEMORY = frozenset({"mem", "mem_per_cpu", "mem_per_gpu"})
#: Options that take no value, and those that may do without, of all releases.
_SWITCHES = frozenset(
    """
    consolidate_segments contiguous hold no_requeue overcommit oversubscribe reboot
    spread_job spread_segments stepmgr use_min_nodes verbose
    """.split()
)
_ALSO_BARE = frozenset(
    """
    exclusive get_user_env nice no_kill oom_kill_step propagate requeue resv_ports
    """.split()
)
#: Options that mean something without a single word.
_MAY_BE_EMPTY = frozenset({"comment", "export"})
#: Options that say the same thing, each in its way: sbatch refuses two of them, or
#: takes the last one.
_RIVALS = (
    ("exclusive", "oversubscribe"),
    ("no_requeue", "requeue"),
    ("mem", "mem_per_cpu", "mem_per_gpu"),
    ("core_spec", "thread_spec"),
    ("cluster", "clusters"),
)
_TIME = (
    r"-1|infinite|unlimited|\d+-|(?:\d+-)?\d+(?::\d+){0,2}",
    "a time",
    '{name}=30: minutes, "1:30:00", "2h" or a timedelta',
)
_SIZE = r"\s*\+?\d+(?:[kmgt]b?)?", "an amount of memory", '{name}="4G" or "4000M"'
_NAMES = "|".join(name.removeprefix("SIG") for name in signal.Signals.__members__)
_SIGNAL = (
    rf"r?b?r?:?\s*(?:(?:sig)?(?:{_NAMES})|[-+]?\d+)\s*(?:@\s*\+?\d*)?",
    "a signal",
    '{name}="B:USR1@300": USR1, 300 s before the time limit',
)
#: What values look like that some release of sbatch takes, what they are, and what to
#: write. (All of time_str2secs, str_to_mbytes and get_signal_opts, 20.11 to 26.05.)
_SHAPES = {
    **dict.fromkeys(_TIMES, _TIME),
    **dict.fromkeys(_MEMORY | {"tmp"}, _SIZE),
    "cpus_per_task": (r"\s*\+?0*[1-9]\d*[km]?", "a number of CPUs", "{name}=2"),
    "signal": _SIGNAL,
    "requeue": ("expedite", "a way to requeue", '{name}=True, or "expedite"'),
}
#: A number of megabytes that nobody means: it is one of bytes.
_BYTES_FROM = 10_000_000


@dataclass(frozen=True, slots=True)
class SbatchOptions:
    """The user's options for sbatch, checked by name; equal options share jobs."""

    #: Names and values as text; True stands for an option without a value.
    items: tuple[tuple[str, str | Literal[True]], ...] = ()

    @classmethod
    def check(cls, options: Mapping[str, OptionValue]) -> SbatchOptions:
        """Keep what is set; None, False and an empty list mean that it is not.

        Raises:
            OptionError: an option is unknown, belongs to the library, contradicts
                another one, or has a value that sbatch cannot read, or Slurm is asked
                for several tasks.
        """
        items = []
        for name, value in sorted(options.items()):
            _check_name(name)
            if (
                value is None
                or value is False
                or (name in _LISTS and isinstance(value, list | tuple) and not value)
            ):
                continue
            items.append((name, _check_value(name, value)))
        _check_rivals(dict(items))
        _check_one_task(dict(items))
        return cls(tuple(items))

    def replace(self, options: Mapping[str, OptionValue]) -> SbatchOptions:
        """Return these options with others in the place of those of the same name."""
        return self.check({**dict(self.items), **options})

    def get(self, name: str) -> str | Literal[True] | None:
        """Return the value of an option, or None."""
        return dict(self.items).get(name)


def _check_name(name: str) -> None:
    refusal = refusal_of(name)
    if refusal is not None:
        raise OptionError(refusal)


def _check_value(name: str, value: OptionValue) -> str | Literal[True]:
    if value is True:
        if name not in _SWITCHES | _ALSO_BARE:
            raise OptionError(
                f"{name}=True says too little: sbatch wants a value there. Write "
                f'{name}="...", as in sbatch --{name.replace("_", "-")}=...'
            )
        return True
    if name in _SWITCHES:
        raise OptionError(
            f"{name}={shown(value)} has a value, and sbatch takes none there. Write "
            f"{name}=True, or leave it out."
        )
    text = _text_of(name, value)
    if "\0" in text or len(text) > 100_000 or not can_be_encoded(text):
        raise OptionError(f"The value of the option {name!r} is not a line of text.")
    if name not in _MAY_BE_EMPTY and "" in text.strip().split(","):
        raise OptionError(
            f"{name}={shown(value)} is empty, or has an empty name in it. Write what "
            f"you mean, or leave it out: {name}=None."
        )
    _check_shape(name, value, text)
    return text


def _check_shape(name: str, value: object, text: str) -> None:
    """See that sbatch could read a time, an amount of memory or a signal."""
    shape, what, example = _SHAPES.get(name, ("", "", ""))
    if shape and not re.fullmatch(shape, text, re.IGNORECASE | re.ASCII):
        raise OptionError(
            f"{name}={shown(value)} is not {what} as sbatch reads it. Write "
            f"{example.format(name=name)}."
        )


def _text_of(name: str, value: OptionValue) -> str:
    if name in _MEMORY:
        value = _check_memory(name, value)
    if isinstance(value, list | tuple):
        return _join(name, value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, timedelta) and name in _TIMES:
        return format_time(math.ceil(value.total_seconds()))
    if isinstance(value, str):
        text = str.__str__(value)  # of an Enum with text the text
        return translate_time(text) if name in _TIMES else text
    if isinstance(value, SupportsIndex):  # as the integers of NumPy
        return str(operator.index(value))
    if isinstance(value, float) and math.isfinite(value):
        return str(float(value))
    raise OptionError(
        f"The option {name!r} has the value {shown(value)}. Write it as on the command "
        f'line of sbatch, as text or number: {name}="...".'
    )


def _join(name: str, values: Sequence[object]) -> str:
    if name not in _LISTS or not all(isinstance(each, str) for each in values):
        raise OptionError(
            f"The option {name!r} has the value {shown(values)}. Write it as on the "
            f'command line of sbatch, as one text: {name}="...".'
        )
    return ",".join(str.__str__(each) for each in values if isinstance(each, str))


def _check_memory(name: str, value: OptionValue) -> OptionValue:
    """See that a number is one of megabytes, sbatch's unit."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return value
    if value >= _BYTES_FROM:
        raise OptionError(
            f"{name}={shown(value)} would be {value / 1e6:,.0f} terabytes: sbatch "
            f'counts memory in megabytes. Write {name}="{max(1, round(value / 1e9))}G".'
        )
    return int(value) if value == int(value) else value


def _check_rivals(options: Mapping[str, str | Literal[True]]) -> None:
    """See that no two options contradict each other.

    Raises:
        OptionError: they do.
    """
    for rivals in _RIVALS:
        given = [f"{name}={options[name]!r}" for name in rivals if name in options]
        if len(given) > 1:
            first, second = given[:2]
            raise OptionError(
                f"{first} and {second} contradict each other. Leave one of them out; "
                f"in options(), {first.partition('=')[0]}=None takes one away."
            )


def _check_one_task(options: Mapping[str, str | Literal[True]]) -> None:
    """See that Slurm is asked for one task: a call is one process.

    Raises:
        OptionError: it is asked for more, which would stand idle.
    """
    for name, value in options.items():
        if name.startswith("ntasks") and _largest(value) > 1:
            raise OptionError(
                f"{name}={value} asks Slurm for several tasks, and a call is a single "
                f"process: the others would not start. Write cpus_per_task={value} for "
                "CPUs that one call uses, or submit more calls. A later release will "
                "run calls with ranks."
            )
        if name == "nodes" and _largest(value) > 1:
            raise OptionError(
                f"nodes={value} asks Slurm for several nodes, and a call is a single "
                "process on one of them. Leave it out: cpus_per_task= is for CPUs that "
                "one call uses, and more calls use more nodes. A later release will "
                "run calls with ranks."
            )
    gpus = _largest(options.get("gpus", "1"))
    for name, tasks in (
        ("ntasks_per_gpu", gpus),
        ("gpus_per_task", gpus / max(1, _largest(options.get("gpus_per_task", "1")))),
    ):
        if name in options and tasks > 1:
            raise OptionError(
                f"{name}={options[name]} with gpus={options['gpus']} makes several "
                "tasks, and a call is a single process: the others would not start. "
                f"Write gpus={options['gpus']} alone."
            )


def _largest(value: str | Literal[True]) -> int:
    """Return the largest number in a value; "1-2", "a100:2", "1k"."""
    found = re.findall(r"(\d+)([km]?)", str(value).rpartition("=")[2].lower())
    numbers = [int(n) * {"": 1, "k": 1024, "m": 1 << 20}[unit] for n, unit in found]
    return max(numbers, default=0)


@dataclass(frozen=True, slots=True)
class Kind:
    """What the jobs of one submission have in common."""

    options: SbatchOptions
    cwd: str
