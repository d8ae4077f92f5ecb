"""Directories in which others could replace a run are refused."""

from __future__ import annotations

import grp
import os
import pwd
import struct
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from slurm_futures.errors import OptionError
from slurm_futures.runs import place
from slurm_futures.runs.place import check_directory
from slurm_futures.runs.run import RunDirectory

_FOREIGN = 54321

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it uses chown")


def test_new_directories_are_closed_to_others(tmp_path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0)
    try:
        check_directory(tmp_path / "a" / "b")
        run = RunDirectory.create(tmp_path / "a" / "c", "fit").fill()
    finally:
        os.umask(before)

    modes = [each.stat().st_mode & 0o777 for each in (tmp_path / "a").iterdir()]
    assert modes == [0o755, 0o755]
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert not any(each.stat().st_mode & 0o022 for each in run.path.glob("*.*"))


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_directory_to_which_everybody_may_write_is_refused(
    tmp_path: Path, depth: int
) -> None:
    """That of the runs, or any above it; the error says what to type."""
    directories = [tmp_path / "a" / "b" / "c", tmp_path / "a" / "b", tmp_path / "a"]
    directories[0].mkdir(parents=True)
    weak = directories[depth]
    weak.chmod(0o777)

    with pytest.raises(OptionError) as caught:
        check_directory(directories[0])

    assert f"Type 'chmod go-w {weak}', or choose" in str(caught.value)
    assert "everybody may write to it (mode 777)" in str(caught.value)
    weak.chmod(0o755)
    check_directory(directories[0])


def test_a_sticky_directory_is_safe(tmp_path: Path) -> None:
    """As /tmp: nobody can rename there what belongs to somebody else."""
    tmp_path.chmod(0o1777)

    check_directory(tmp_path / "a")


def test_what_a_link_leads_to_counts(tmp_path: Path) -> None:
    """And all that is above that."""
    (tmp_path / "open" / "a").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "safe").mkdir()
    (tmp_path / "safe" / "link").symlink_to("../open/a")

    with pytest.raises(OptionError, match="everybody may write"):
        check_directory(tmp_path / "safe" / "link" / "runs")


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    """And no endless way."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(OptionError, match="Jobs cannot keep their files"):
        check_directory(tmp_path / "a")
    assert place.find_weakness(tmp_path / "a") == (None, None)


@needs_root
def test_a_link_that_another_user_has_put_into_a_sticky_directory(
    tmp_path: Path,
) -> None:
    """Can lead elsewhere at any time."""
    tmp_path.chmod(0o1777)
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    os.chown(link, _FOREIGN, _FOREIGN, follow_symlinks=False)

    weakness, _ = place.find_weakness(link)

    assert weakness == (link, f"it is a symbolic link of user {_FOREIGN}")


@needs_root
@pytest.mark.parametrize("mode", [0o755, 0o1777], ids=["closed", "sticky"])
def test_an_owner_of_a_directory_above_is_told_once(
    tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The leader of a project may be one; a sticky directory does not bind him."""
    project = tmp_path / "project"
    (project / "me").mkdir(parents=True)
    project.chmod(mode)
    os.chown(project, _FOREIGN, _FOREIGN)

    check_directory(project / "me" / "a")
    check_directory(project / "me" / "b")

    (record,) = caplog.records
    assert record.getMessage() == (
        f"{project} belongs to user {_FOREIGN}, who could replace your jobs' files "
        "below it, which run as you. If you do not trust them, choose another "
        'directory: SlurmExecutor(directory="...").'
    )


@needs_root
def test_nobody_is_not_suspected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Root appears so where a file system or a container maps users."""
    (tmp_path / "project" / "me").mkdir(parents=True)
    os.chown(tmp_path / "project", 65534, 65534)

    check_directory(tmp_path / "project" / "me")

    assert not caplog.records


@needs_root
def test_roots_directories_are_fine_for_others() -> None:
    """And root's suspicions are not theirs: each user asks for himself."""
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to others
        home = Path(name)
        home.chmod(0o755)
        (home / "ada").mkdir()
        (home / "bob").mkdir()
        os.chown(home / "ada", _FOREIGN, _FOREIGN)
        os.chown(home / "bob", _FOREIGN + 1, _FOREIGN + 1)

        found = {each: look_as_user(_FOREIGN, home / each) for each in ("ada", "bob")}

    assert found == {
        "ada": "(None, None)",
        "bob": "(None, Weakness(place=PosixPath("
        f"'{home}/bob'), why='belongs to user {_FOREIGN + 1}'))",
    }


def look_as_user(user: int, path: Path) -> str:
    """Return what another user finds there."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(user)
            os.setuid(user)
            os.write(write, repr(place.find_weakness(path)).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as file:
        return file.read()


@needs_root
def test_a_file_system_that_gives_files_another_owner_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS does with those of root: each job would say that the run is not ours."""
    tmp_path.chmod(0o1777)
    temporary = tempfile.TemporaryFile

    def squashed(**options: Any) -> IO[bytes]:
        file: IO[bytes] = temporary(**options)
        os.fchown(file.fileno(), 65534, 65534)
        return file

    monkeypatch.setattr(tempfile, "TemporaryFile", squashed)

    with pytest.raises(OptionError, match="belong to user 65534, and jobs use only"):
        check_directory(tmp_path)


def set_acl(path: Path, *entries: tuple[int, int, int]) -> None:
    """Give a directory an ACL of these entries: tag, permissions, user or group."""
    nobody = 0xFFFFFFFF
    all_entries = [(1, 7, nobody), *entries, (0x10, 7, nobody), (0x20, 5, nobody)]
    packed = b"".join(struct.pack("<HHI", *each) for each in all_entries)
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as error:
        pytest.skip(f"needs a file system with ACLs: {error}")


OWN, OTHERS = 0xFFFFFFFF, _FOREIGN


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (
            [(2, 7, OTHERS), (4, 5, OWN)],
            f"user {OTHERS} may write to it, by an ACL",
        ),
        ([(4, 5, OWN), (8, 7, OTHERS)], f"group {OTHERS} may write to it"),
        ([(2, 5, OTHERS), (4, 7, OWN)], None),
        ([(2, 7, 0), (4, 5, OWN), (8, 5, OTHERS)], None),
    ],
    ids=["user", "group", "only own group", "only root"],
)
def test_an_acl_tells_who_may_write(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entries: list[tuple[int, int, int]],
    why: str | None,
) -> None:
    """The mode shows its mask in the place of the group: both would be g+w."""
    own = os.getegid()
    monkeypatch.setattr(place, "_is_own_group", lambda group, _: group == own)
    set_acl(tmp_path, *entries)
    assert tmp_path.stat().st_mode & 0o777 == 0o775

    weakness, _ = place.find_weakness(tmp_path)

    assert (weakness and weakness.why) == why


def test_closing_a_directory_to_its_group_closes_its_acl(tmp_path: Path) -> None:
    """So the command of the error is right."""
    set_acl(tmp_path, (2, 7, OTHERS), (4, 5, OWN))
    tmp_path.chmod(tmp_path.stat().st_mode & ~0o022)

    assert place.find_weakness(tmp_path) == (None, None)


def test_each_directory_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done for each submission."""
    asked: list[Path] = []
    lstat = Path.lstat

    def count(path: Path) -> os.stat_result:
        asked.append(path)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", count)

    place.find_weakness(tmp_path)

    assert sorted(asked) == sorted([tmp_path, *tmp_path.parents])


@pytest.mark.parametrize(
    ("group", "safe"),
    [
        ((_FOREIGN, "ada", []), True),
        ((_FOREIGN, "ada", ["ada"]), True),
        ((_FOREIGN, "ada", ["bob"]), False),
        ((_FOREIGN, "lab", []), False),
        ((_FOREIGN + 1, "ada", []), False),
        ((0, "root", ["bob"]), True),
    ],
)
def test_a_group_may_write_if_the_user_is_alone_in_it(
    monkeypatch: pytest.MonkeyPatch, group: tuple[int, str, list[str]], safe: bool
) -> None:
    """Many systems make such a group for each user, and set the umask to 002."""
    number, name, members = group
    entry = SimpleNamespace(gr_name=name, gr_mem=members)
    user = SimpleNamespace(pw_name="ada", pw_gid=_FOREIGN)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: user)
    monkeypatch.setattr(grp, "getgrgid", lambda _: entry)

    assert place._is_own_group.__wrapped__(number, _FOREIGN) is safe


@needs_root
@pytest.mark.parametrize(("number", "name"), [(_FOREIGN, "54321"), (1, "'daemon'")])
def test_a_directory_of_a_group_is_refused(
    tmp_path: Path, number: int, name: str
) -> None:
    """Each of its members could replace a run."""
    os.chown(tmp_path, 0, number)
    tmp_path.chmod(0o775)

    with pytest.raises(OptionError, match=f"group {name} may write to it"):
        check_directory(tmp_path / "runs")


def test_a_user_without_a_name_has_a_group_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the same number."""
    monkeypatch.setattr(os, "getegid", lambda: _FOREIGN)

    assert place._is_own_group(_FOREIGN, _FOREIGN)
    assert not place._is_own_group(_FOREIGN + 1, _FOREIGN)
