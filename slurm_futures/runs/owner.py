"""Who owns a run: what its links say (see `lease.py`), and whether that one lives."""

from __future__ import annotations

import errno
import json
import os
import re
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from slurm_futures.runs.program import Program, find_start

#: The directory of the links, in that of the run.
PLACE = "owner"
#: The text of a link that says that nobody owns the run.
FREE = "free"
#: That of other links has this version.
_VERSION = 1
#: The number of a lease, and that of its beat.
_NAME = re.compile(r"([1-9][0-9]*)(?:\.([1-9][0-9]*))?")


@dataclass(frozen=True, slots=True)
class Owner:
    """The program that owns a run.

    Attributes:
        host: its name; None if a lease is there that this version cannot read.
        pid: the number of its process; None likewise.
    """

    host: str | None
    pid: int | None


#: The leases that this process has, or is about to take, by their tokens.
held: weakref.WeakValueDictionary[str, object] = weakref.WeakValueDictionary()


def read_owner(run: Path) -> Owner | None:
    """Return who owns a run; None: nobody, or one that is known to be dead.

    Raises:
        OSError: nobody can tell now.
    """
    try:
        last = find_last(run / PLACE)
    except FileNotFoundError:  # it never had one
        return None
    return None if last.owner_lives(Program.this()) is False else last.owner


class LastLease(NamedTuple):
    """The last link of a run.

    Attributes:
        number: 0: there is none.
        text: what it says; empty if it is no link.
        beat: the last one of it.
    """

    number: int = 0
    text: str = FREE
    beat: int = 0

    def is_same_lease(self, other: LastLease) -> bool:
        """Whether nobody has taken the run between these two."""
        return (self.number, self.text) == (other.number, other.text)

    @property
    def owner(self) -> Owner:
        """Who took it."""
        facts = _read_facts(self.text)
        return Owner(facts[0].host, facts[0].pid) if facts else Owner(None, None)

    def owner_lives(self, here: Program) -> bool | None:
        """Whether it lives, as a program can see; None: only its beat can tell."""
        if self.text == FREE:
            return False
        facts = _read_facts(self.text)
        if facts is None:
            return None
        program, token = facts
        if program == here and token in held:
            return True
        if not here.knows(program):
            return None
        if program == here:  # this process once had it
            return False
        return find_start(program.pid) == program.started

    def describe_owner(self) -> str:
        """Say who it is, for a message."""
        if self.text == FREE:
            return "a program that is over by now"
        owner = self.owner
        if owner.host is None:
            return "a program that this version cannot name"
        return f"process {owner.pid} on host {owner.host}"


def find_last(place: Path) -> LastLease:
    """Find out who took the run last.

    Raises:
        FileNotFoundError: the run never had an owner, or is gone.
        OSError: nobody can tell now.
    """
    missed = 0
    while True:
        links = list(list_links(place))
        number = max((number for number, beat in links if not beat), default=0)
        if number == 0:
            return LastLease()
        try:
            text = _read_link(place / str(number))
        except FileNotFoundError as error:  # taken over just now, or an old listing
            if number == missed:
                raise OSError(errno.ESTALE, "an old listing", str(place)) from error
            missed = number
        else:
            beats = (beat for owner, beat in links if owner == number)
            return LastLease(number, text, max(beats))


def list_links(place: Path) -> Iterator[tuple[int, int]]:
    """Yield the numbers of leases with 0, and of leases with those of their beats."""
    for name in os.listdir(place):
        if match := _NAME.fullmatch(name):
            yield int(match[1]), int(match[2] or 0)


def _read_link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115  (a text, and no path)
    except OSError as error:
        if error.errno == errno.EINVAL:  # no link
            return ""
        raise


def format_facts(program: Program, token: str) -> str:
    """Return the text of a link."""
    return json.dumps({"version": _VERSION, **asdict(program), "token": token})


def _read_facts(text: str) -> tuple[Program, str] | None:
    """Return what a link says, program and token; None if it makes no sense."""
    try:
        facts = json.loads(text)
        if facts.pop("version") != _VERSION:
            return None
        token = facts.pop("token")
        program = Program(**facts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    kinds = [type(each) for each in (*asdict(program).values(), token)]
    return (program, token) if kinds == [str, str, int, int, int, str] else None
