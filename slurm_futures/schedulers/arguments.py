"""Checks of arguments that are not sbatch's: seconds, switches, paths."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from slurm_futures.errors import OptionError, shown


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
        with contextlib.suppress(OverflowError):  # a very large integer
            seconds = float(value)
    if (positive and 0 < seconds < math.inf) or (not positive and seconds >= 0):
        return
    raise OptionError(
        f"{name}={shown(value)} is not a number of seconds. Write it like {name}=30: "
        "half a minute."
    )


def check_switch(name: str, value: object) -> None:
    """Check that an argument is True or False: any text counts as true, also "no".

    Raises:
        OptionError: it is not.
    """
    if not isinstance(value, bool):
        raise OptionError(
            f"{name}={shown(value)} is neither True nor False. Write one."
        )


def full_path(name: str, value: object) -> Path:
    """Return a path from the root, in which no symbolic link is replaced.

    Raises:
        OptionError: it is not a path, or begins where there is no directory any more.
    """
    text = path_text(name, value)
    try:
        return Path(os.path.abspath(text))  # noqa: PTH100  (it resolves ..)
    except FileNotFoundError:
        raise OptionError(
            f"{name}={shown(value)} begins in the current directory, which was "
            "deleted. Call os.chdir() before, or write a path from the root: "
            f'{name}="/...".'
        ) from None


def path_text(name: str, value: object) -> str:
    """Return a path as text.

    Raises:
        OptionError: it is not one, or has a "~" that only a shell would replace.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
    if not isinstance(text, str) or not text.strip() or not can_be_encoded(text):
        raise OptionError(
            f'{name}={shown(value)} is not a path. Write it as {name}="...".'
        )
    if text.startswith("~"):
        raise OptionError(
            f"{name}={shown(value)} is not your home directory: only a shell reads ~ "
            f"so. Write {name}=os.path.expanduser({text!r})."
        )
    return text


def check_shell(name: str, lines: Sequence[str]) -> None:
    """Check that bash can read shell lines, where this machine has a bash.

    Raises:
        OptionError: it cannot, or they would take what comes behind them for theirs.
    """
    text = "\n".join(lines) + "\n"
    if not text.strip():
        return
    try:
        answer = subprocess.run(
            # A pattern of extglob is no error: a line may have switched that on.
            ["bash", "-O", "extglob", "-n"],
            input=os.fsencode(text),
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            capture_output=True,
            check=False,
        )
    except OSError:
        return
    complaint = answer.stderr.decode(errors="replace").strip()
    if complaint:
        raise OptionError(
            f"The lines of {name}= are not complete in themselves. Bash says:\n"
            f"{complaint}\nCorrect them; {name}= may have several lines."
        )


def can_be_encoded(text: str) -> bool:
    """Whether a command or a file can hold a text."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeError:
        return False
    return True
