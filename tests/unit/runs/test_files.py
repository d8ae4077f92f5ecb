"""Files that appear whole, and files that need not be there."""

from pathlib import Path

from slurm_futures.runs.files import read_tail, read_text, write_file


def test_file_appears_complete(tmp_path: Path) -> None:
    """Under its name, in one step, in the place of an older one."""
    path = tmp_path / "run.json"
    path.write_text("old")

    write_file(path, b"new")

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_not_there_are_empty(tmp_path: Path) -> None:
    """A job may not have begun."""
    assert read_text(tmp_path / "none") == ""
    assert read_tail(tmp_path / "none") == ""
