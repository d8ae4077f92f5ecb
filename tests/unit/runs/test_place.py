"""Directories in which others could replace a run are refused."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from slurm_futures.errors import OptionError
from slurm_futures.runs import place
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.writer import check_directory

_FOREIGN = 54321

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it uses chown")


def test_new_directories_are_closed_to_others(tmp_path: Path) -> None:
    """Whatever the umask."""
    before = os.umask(0)
    try:
        check_directory(tmp_path / "a" / "b")
        run = RunDirectory.create(tmp_path / "a" / "c", "fit")
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
    assert place.find_weakness(tmp_path / "a") is None


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

    weakness = place.find_weakness(link)

    assert weakness == (link, f"it is a symbolic link of user {_FOREIGN}")


@needs_root
def test_a_directory_above_may_belong_to_anybody(tmp_path: Path) -> None:
    """As on file systems that map root, or belong to a project."""
    (tmp_path / "project" / "me").mkdir(parents=True)
    os.chown(tmp_path / "project", _FOREIGN, _FOREIGN)

    assert place.find_weakness(tmp_path / "project" / "me") is None


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

    assert place._is_own_group(number) is safe


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
    monkeypatch.setattr(os, "geteuid", lambda: _FOREIGN)
    monkeypatch.setattr(os, "getegid", lambda: _FOREIGN)

    assert place._is_own_group(_FOREIGN)
    assert not place._is_own_group(_FOREIGN + 1)
