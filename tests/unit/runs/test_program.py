"""What a program knows of itself and of others."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_futures.runs.program import Program, find_start


def test_program_is_the_same_as_long_as_it_lives() -> None:
    """And another one is not."""
    here = Program.this()

    assert here == Program.this()
    assert (here.pid, here.user) == (os.getpid(), os.geteuid())
    assert here.started == find_start(here.pid) != find_start(1)
    assert here.knows(replace(here, pid=1))


@pytest.mark.parametrize("name", ["/proc/self", "/proc/self/ns/pid"])
def test_program_without_proc_knows_nobody(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even others that cannot tell either."""
    readlink = Path.readlink

    def fail(path: Path) -> Path:
        if str(path) == name:
            raise FileNotFoundError(name)
        return readlink(path)

    monkeypatch.setattr(Path, "readlink", fail)
    here = Program.this()

    assert (here.system, here.started) == ("", 0)
    assert not here.knows(replace(here, pid=1))
