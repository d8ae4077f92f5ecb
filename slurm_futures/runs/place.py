"""Where runs are kept: made safe, and refused where others could replace them.

What lies in a run is executed and unpickled. It has mode 0700; but who may write to a
directory above it can rename it, and put another one in its place. So nobody else may
write there, as sshd wants it of a home directory (StrictModes): neither everybody nor
a group, unless that is the user's own group. In a sticky directory, such as /tmp, each
user can rename only what is his own. Who owns a directory above is not asked: on
shared file systems that may be anybody, and each job sees for itself that its run
belongs to the user.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

#: So many symbolic links the system follows on its way (path_resolution(7)).
_MOST_LINKS = 40


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, to which nobody else may write.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        if path.parent != path:
            make_directory(path.parent)
        path.mkdir(0o755, exist_ok=True)


def find_weakness(path: Path) -> tuple[Path, str] | None:
    """Return where others could replace what is below a directory, and why.

    Raises:
        OSError: nobody can tell now.
    """
    is_sticky = False
    for place, status in _places_on_the_way(path):
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            if is_sticky and status.st_uid not in {0, os.geteuid()}:
                return place, f"it is a symbolic link of user {status.st_uid}"
            continue
        is_sticky = bool(mode & stat.S_ISVTX)
        if is_sticky:
            continue
        if mode & stat.S_IWOTH:
            return place, f"everybody may write to it (mode {mode & 0o777:o})"
        if mode & stat.S_IWGRP and not _is_own_group(status.st_gid):
            return place, f"group {_name_of(status.st_gid)} may write to it"
    return None


def _places_on_the_way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield each directory and each link that leads to a directory, and what it is."""
    place = Path("/")
    yield place, place.lstat()
    rest = [*reversed(path.absolute().parts[1:])]
    links = 0
    while rest and links <= _MOST_LINKS:
        part = rest.pop()
        place = place.parent if part == ".." else place / part
        status = place.lstat()
        yield place, status
        if stat.S_ISLNK(status.st_mode):
            links += 1
            target = place.readlink()
            rest += [each for each in reversed(target.parts) if each != "/"]
            place = Path("/") if target.is_absolute() else place.parent


def _is_own_group(number: int) -> bool:
    """Whether the user alone is in a group, as where each user has one; or root is."""
    if number == 0:
        return True
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(number)
    except KeyError:  # one of them has no name
        return number == os.getegid() == os.geteuid()
    others = set(group.gr_mem) - {user.pw_name}
    return (group.gr_name, number) == (user.pw_name, user.pw_gid) and not others


def _name_of(group: int) -> str:
    try:
        return repr(grp.getgrgid(group).gr_name)
    except KeyError:
        return str(group)
