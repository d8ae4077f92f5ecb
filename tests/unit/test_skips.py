"""What CI says of the tests that were left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.skips import main, summarize

_TIERS = ("unit", "contract", "cluster", "integration", "slurm")
_ALL = "".join(
    f'<testcase classname="tests.{tier}.test_a" name="test_b"/>' for tier in _TIERS
)


def _report(more: str = "", passed: str = _ALL) -> str:
    return f'<testsuites><testsuite time="7.2">{passed}{more}</testsuite></testsuites>'


def _skipped(reason: str, kind: str = "skip") -> str:
    return (
        '<testcase classname="tests.cluster.test_a" name="test_c">'
        f'<skipped type="pytest.{kind}" message="{reason}"/></testcase>'
    )


def test_tests_that_passed_are_counted() -> None:
    """One line for each report, with those that had to fail."""
    lines, fine = summarize("tests", _report(_skipped("differs", "xfail")))

    assert lines == ["tests: 5 passed, 1 xfailed in 7 s"]
    assert fine


def test_skip_with_a_listed_reason_is_fine() -> None:
    """The reason may have more words."""
    more = _skipped("CPython cannot start threads at exit: needs 3.12.2 or later")

    assert summarize("tests", _report(more))[1]


def test_skip_for_another_reason_is_not_fine() -> None:
    """Tests with the same reason share a line."""
    lines, fine = summarize("tests", _report(_skipped("needs Slurm: apt-get") * 2))

    assert lines[1:] == ["  LEFT OUT: 2 x needs Slurm: apt-get"]
    assert not fine


def test_other_pythons_may_lack_what_the_first_has() -> None:
    """Only Debian's own Python has all packages."""
    reason = "needs CPython's test suite: install libpython3.11-testsuite"
    more = _skipped("collection skipped").replace("/></", f">{reason}</skipped></")

    assert not summarize("tests", _report(more))[1]
    assert summarize("others-3.12", _report(more, passed=""))[1]


@pytest.mark.parametrize("tag", ["failure", "error"])
def test_failures_are_named(tag: str) -> None:
    """A test that failed, or what it left behind."""
    more = f'<testcase classname="tests.unit.test_a" name="test_c"><{tag}/></testcase>'
    lines, fine = summarize("tests", _report(more))

    assert lines[1:] == ["  FAILED: tests.unit.test_a::test_c"]
    assert not fine


def test_tier_without_tests_is_missed() -> None:
    """As when a folder is not collected."""
    lines, fine = summarize("tests", _report(passed=_ALL.replace("slurm", "unit")))

    assert lines[1:] == ["  LEFT OUT: all tests of the tier slurm"]
    assert not fine


def test_report_of_the_first_python_is_needed(tmp_path: Path) -> None:
    """Where pytest could not start there is nothing to read."""
    other = tmp_path / "others-3.12.xml"
    other.write_text(_report())

    assert main([other]) == 1
