"""Checks of arguments that are not sbatch's: seconds, switches, paths."""

from __future__ import annotations

import math
import os

from slurm_futures.errors import OptionError


def check_seconds(
    name: str, value: object, *, optional: bool = False, positive: bool = False
) -> None:
    """Check that an option is a number of seconds.

    Args:
        name: the option.
        value: what it was set to.
        optional: whether it may be None.
        positive: whether it must be more than 0, and not infinite either.

    Raises:
        OptionError: it is not.
    """
    if optional and value is None:
        return
    seconds = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    if (positive and 0 < seconds < math.inf) or (not positive and seconds >= 0):
        return
    raise OptionError(
        f"{name}={value!r} is not a number of seconds. Write it like {name}=30: half a "
        "minute."
    )


def check_switch(name: str, value: object) -> None:
    """Check that an argument is True or False: any text counts as true, also "no".

    Raises:
        OptionError: it is not.
    """
    if not isinstance(value, bool):
        raise OptionError(f"{name}={value!r} is neither True nor False. Write one.")


def path_text(name: str, value: object) -> str:
    """Return a path as text.

    Raises:
        OptionError: it is not one, or has a "~" that only a shell would replace.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
    if not isinstance(text, str) or not text.strip():
        raise OptionError(f'{name}={value!r} is not a path. Write it as {name}="...".')
    if text.startswith("~"):
        raise OptionError(
            f"{name}={value!r} is not your home directory: only a shell reads ~ so. "
            f"Write {name}=os.path.expanduser({text!r})."
        )
    return text
