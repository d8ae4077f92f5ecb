"""Memory and times as sbatch writes them."""

from __future__ import annotations

import math
import re

from slurm_futures.errors import OptionError

_CLOCK = re.compile(r"\d+-|(?:\d+-)?\d+(?::\d+){0,2}", re.ASCII)
#: A time as people write it: each part a number with its unit.
_PART = re.compile(
    r"(\d+(?:\.\d+)?)\s*(days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\s*",
    re.IGNORECASE | re.ASCII,
)
_WITH_UNITS = re.compile(f"(?:{_PART.pattern})+", _PART.flags)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
#: Factors of sbatch's units of memory; without a unit it is MiB (sbatch(1), --mem).
_UNITS = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}


def parse_memory(value: object) -> float:
    """Return an amount of memory as sbatch writes it, in MiB.

    Raises:
        OptionError: it is not one.
    """
    match = re.fullmatch(
        r"\s*\+?(\d+(?:\.\d+)?)\s*([KMGT]?)B?", str(value), re.IGNORECASE
    )
    if match is None:
        raise OptionError(f'{value!r} is not an amount of memory. Write it like "4G".')
    return float(match[1]) * _UNITS[match[2].upper()]


def parse_count(value: object) -> int:
    """Return a number of CPUs or the like as sbatch reads it: "1k" are 1024.

    Raises:
        OptionError: it is not one.
    """
    match = re.fullmatch(r"\s*\+?(\d+)([KM]?)", str(value), re.IGNORECASE)
    if match is None:
        raise OptionError(f"{value!r} is not a number. Write it like 4.")
    return int(match[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[match[2].upper()]


def format_time(seconds: float) -> str:
    """Return a time as sbatch reads it."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def translate_time(text: str) -> str:
    """Return a time with units, such as "2h", "30 min" or "1d12h", as sbatch reads it.

    Any other text stays as it is.
    """
    if not _WITH_UNITS.fullmatch(text.strip()):
        return text
    seconds = sum(
        float(number) * _SECONDS[unit[0].lower()]
        for number, unit in _PART.findall(text)
    )
    return format_time(math.ceil(seconds))


def parse_time(value: object) -> float | None:
    """Read a time limit as sbatch does; seconds, or None for no limit.

    "30" and 30 are minutes; the other forms are MM:SS, HH:MM:SS, D-, D-HH, D-HH:MM,
    D-HH:MM:SS and UNLIMITED; besides, those of `translate_time`. Unlike Slurm, whole
    minutes are not required.

    Raises:
        OptionError: it is none of these.
    """
    text = translate_time(str(value))
    if text.upper() in {"UNLIMITED", "INFINITE", "-1"}:
        return None
    if not _CLOCK.fullmatch(text):
        raise OptionError(f'{text!r} is not a time limit. Write it like "1:30:00".')
    days, dash, clock = text.rpartition("-")
    numbers = [int(number) for number in (clock or "0").split(":")]
    first_unit = 0 if dash or len(numbers) == 3 else 1
    units = (3600, 60, 1)[first_unit:]
    seconds = sum(number * unit for number, unit in zip(numbers, units, strict=False))
    return (int(days or 0) * 86400 + seconds) or None  # 0 is no limit: sbatch(1)
