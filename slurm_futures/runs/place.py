"""Where runs are kept: made safe, and refused where others could replace them.

What lies in a run is executed and unpickled. It has mode 0700; but who may write to a
directory above it can rename it, and put another one in its place. So nobody else may
write there, as sshd wants it of a home directory (StrictModes): neither everybody nor
a group, unless that is the user's own group, nor a user whom an ACL names. In a sticky
directory, such as /tmp, each user can rename only what is his own.

The owner of a directory above can do the same. sshd refuses that, too; here it is only
said, once: on clusters the space of a project belongs to the one who leads it, who can
replace the programs that lie there as well, and the user has no other place. Nothing
is said of root and nobody; as nobody appears root where a file system or a container
maps users. All this is looked at again for each submission, and each job sees for
itself that its run belongs to the user.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import pwd
import stat
import struct
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from slurm_futures.errors import OptionError
from slurm_futures.node.patience import Patience

logger = logging.getLogger("slurm_futures")

#: Seconds that a file system has where the constructor of an executor waits for it.
_SHORT_GRACE = 0.5
#: So many symbolic links the system follows on its way (path_resolution(7)).
_MOST_LINKS = 40
#: Users who are not suspected: root, and nobody.
_SYSTEM = frozenset({0, 65534})
#: Where Linux keeps an ACL, and the tags of its entries: tag, permissions, number.
_ACL = "system.posix_acl_access"
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP = 0x02, 0x04, 0x08
_ACL_ENTRY = struct.Struct("<HHI")


class Weakness(NamedTuple):
    """A directory in which others could replace what is below, and why."""

    place: Path
    why: str


def check_directory(directory: Path) -> None:
    """Make the directory of runs, and check that jobs can use it.

    Raises:
        OptionError: they cannot.
    """
    text = str(directory)
    # slurmd does not create an output file whose path holds a backslash.
    bad = next((char for char in "\\\n\r\0" if char in text), None)
    if bad is not None:
        raise OptionError(
            f"The directory {text!r} holds the character {bad!r}, with which Slurm "
            'cannot create files. Choose another one: SlurmExecutor(directory="...").'
        )
    try:
        owner = Patience(_SHORT_GRACE).insist(_try_directory, directory)
    except OSError as error:
        raise OptionError(
            f"Jobs cannot keep their files in {directory}: {_reason(error)}. "
            "Choose a directory that you may write to and that the nodes share with "
            'this machine: SlurmExecutor(directory="...").'
        ) from error
    if owner != os.geteuid():
        raise OptionError(
            f"Files that you make in {directory} belong to user {owner}, and jobs use "
            "only your own: the file system gives them another owner, as NFS does with "
            'those of root. Choose another directory: SlurmExecutor(directory="...").'
        )


def _try_directory(directory: Path) -> int:
    """Make the directory and a file in it; return whose the file is."""
    make_directory(directory)
    check_place(directory)
    with tempfile.TemporaryFile(dir=directory) as file:
        return os.fstat(file.fileno()).st_uid


def _reason(error: OSError) -> str:
    """Say why a directory cannot be made; "File exists" would say too little."""
    if not isinstance(error, FileExistsError):
        return str(error.strerror)
    path = Path(error.filename)
    if path.is_symlink():
        return f"{path} is a symbolic link to {path.readlink()}, which is no directory"
    return f"{path} is a file"


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, to which nobody else may write.

    Raises:
        OSError: it cannot be made.
    """
    if not path.is_dir():
        if path.parent != path:
            make_directory(path.parent)
        path.mkdir(0o755, exist_ok=True)


def check_place(directory: Path) -> None:
    """See that others cannot replace what is below a directory; warn of its owners.

    Raises:
        OptionError: they can.
        OSError: nobody can tell now.
    """
    weakness, owned = find_weakness(directory)
    if weakness is not None:
        raise OptionError(
            f"Others could replace the jobs' files in {directory}, which run as you.\n"
            f"The reason is {weakness.place}: {weakness.why}.\nType 'chmod go-w "
            f"{weakness.place}', or choose a directory where only you may write: "
            'SlurmExecutor(directory="...").'
        )
    if owned is not None:
        _warn_of_owner(*owned)


@cache  # once for each
def _warn_of_owner(place: Path, why: str) -> None:
    logger.warning(
        "%s %s, who could replace your jobs' files below it, which run as you. If you "
        'do not trust them, choose another directory: SlurmExecutor(directory="...").',
        place,
        why,
    )


def find_weakness(path: Path) -> tuple[Weakness | None, Weakness | None]:
    """Return where others may write, and where another user is the owner, if at all.

    It takes one lstat for each directory and link on the way.

    Raises:
        OSError: nobody can tell now.
    """
    is_sticky = False
    owned = None
    us = os.geteuid()
    for place, status in _places_on_the_way(path):
        mode, owner = status.st_mode, status.st_uid
        if stat.S_ISLNK(mode):
            if is_sticky and owner not in {0, us}:
                return Weakness(place, f"it is a symbolic link of user {owner}"), owned
            continue
        if owned is None and owner not in _SYSTEM | {us}:
            owned = Weakness(place, f"belongs to user {user_name(owner)}")
        is_sticky = bool(mode & stat.S_ISVTX)
        why = None if is_sticky else _who_may_write(place, status)
        if why is not None:
            return Weakness(place, why), owned
    return None, owned


def _who_may_write(place: Path, status: os.stat_result) -> str | None:
    """Say who may write to a directory besides its owner; None: nobody else."""
    mode = status.st_mode
    if mode & stat.S_IWOTH:
        return f"everybody may write to it (mode {mode & 0o777:o})"
    if not mode & stat.S_IWGRP:  # which is the mask, where there is an ACL
        return None
    users, groups = _read_acl(place, status.st_gid)
    for user in users:
        if user not in {0, os.geteuid()}:
            return f"user {user_name(user)} may write to it, by an ACL"
    for group in groups:
        if not _is_own_group(group, os.geteuid()):
            return f"group {_name_of(group)} may write to it"
    return None


def _read_acl(place: Path, group: int) -> tuple[list[int], list[int]]:
    """Return the users and groups that an ACL lets write; without one, the group."""
    if not hasattr(os, "getxattr"):  # not Linux
        return [], [group]
    try:
        entries = os.getxattr(place, _ACL, follow_symlinks=False)[4:]
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP, errno.ENOSYS}:
            return [], [group]
        raise
    users, groups = [], []
    for tag, permissions, number in _ACL_ENTRY.iter_unpack(entries):
        if permissions & os.W_OK and tag == _ACL_USER:
            users.append(number)
        elif permissions & os.W_OK and tag in {_ACL_GROUP, _ACL_GROUP_OBJ}:
            groups.append(group if tag == _ACL_GROUP_OBJ else number)
    return users, groups


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


@cache
def _is_own_group(number: int, us: int) -> bool:
    """Whether the user alone is in a group, as where each user has one; or root is."""
    if number == 0:
        return True
    try:
        user, group = pwd.getpwuid(us), grp.getgrgid(number)
    except KeyError:  # one of them has no name
        return number == os.getegid() == us
    others = set(group.gr_mem) - {user.pw_name}
    return (group.gr_name, number) == (user.pw_name, user.pw_gid) and not others


def _name_of(group: int) -> str:
    try:
        return repr(grp.getgrgid(group).gr_name)
    except KeyError:
        return str(group)


def user_name(user: int) -> str:
    """Return the name of a user for a message; without one, the number."""
    try:
        return repr(pwd.getpwuid(user).pw_name)
    except KeyError:
        return str(user)
