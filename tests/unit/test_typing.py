"""What mypy makes of tests/typing: one file is accepted, lines of one are refused."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

_ROOT = Path(__file__).parents[2]
_ACCEPTED = Path("tests/typing/accepted.py")
_REFUSED = Path("tests/typing/refused.py")
_TIMEOUT = 300  #: seconds; without a cache mypy reads everything that is imported

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None,
    reason="needs mypy: pip install slurm-futures[dev]",
)


class Complaint(NamedTuple):
    """One error of mypy."""

    path: Path
    line: int
    message: str


@pytest.fixture(scope="module")
def complaints() -> list[Complaint]:
    """Return what mypy has to say of both files; it reads them once."""
    answer = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", _ACCEPTED, _REFUSED],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    assert answer.returncode == 1, answer.stdout + answer.stderr
    found = re.findall(r"^(.+?):(\d+): error: (.*)$", answer.stdout, re.MULTILINE)
    return [Complaint(Path(path), int(line), text) for path, line, text in found]


def test_mypy_accepts_what_is_right(complaints: list[Complaint]) -> None:
    """Annotations say no less than what is known."""
    assert [one for one in complaints if one.path == _ACCEPTED] == []


def test_mypy_refuses_each_marked_line(complaints: list[Complaint]) -> None:
    """Annotations say enough for mypy to find each of the mistakes, and only those."""
    said = {one.line: one.message for one in complaints if one.path == _REFUSED}
    expected = _marked_lines()

    assert said.keys() == expected.keys()
    for line, fragment in expected.items():
        assert fragment in said[line]


def _marked_lines() -> dict[int, str]:
    lines = (_ROOT / _REFUSED).read_text().splitlines()
    parts = [line.partition("# E: ") for line in lines]
    return {
        number: fragment
        for number, (_, mark, fragment) in enumerate(parts, start=1)
        if mark
    }
