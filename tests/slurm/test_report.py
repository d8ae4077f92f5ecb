"""The report of the cluster tier tells all that did not pass, and why."""

from pathlib import Path

import pytest

from tests.slurm.report import main, summarize

_REPORT = """<testsuites><testsuite>
<testcase classname="tests.cluster.test_a" name="test_value"/>
<testcase classname="tests.cluster.test_a" name="test_error">
  <failure message="AssertionError: 1 != 2&#10;more">text</failure></testcase>
<testcase classname="tests.cluster.test_a" name="test_leftover">
  <error message="failed on teardown">text</error></testcase>
<testcase classname="tests.cluster.test_a" name="test_other">
  <skipped type="pytest.skip" message="{reason}">text</skipped></testcase>
</testsuite></testsuites>"""


def test_all_that_did_not_pass_is_named() -> None:
    """Failures, errors and skipped tests have a line each, with the reason."""
    text, has_slurm = summarize(_REPORT.format(reason="Slurm 20.11 has no such state"))

    assert text.splitlines() == [
        "1 passed, 2 failed, 1 skipped",
        "  failed: test_error: AssertionError: 1 != 2",
        "  failed: test_leftover: failed on teardown",
        "  skipped: test_other: Slurm 20.11 has no such state",
    ]
    assert has_slurm


@pytest.mark.parametrize(
    "reason",
    ["needs Slurm: apt-get install slurmd", "needs Slurm's accounting: apt-get ..."],
)
def test_tests_without_slurm_are_a_failure(tmp_path: Path, reason: str) -> None:
    """A run that left Slurm out says nothing about a release of it."""
    report = tmp_path / "report.xml"
    report.write_text(_REPORT.format(reason=reason))

    assert main(report) == 1


def test_no_report_is_a_failure(tmp_path: Path) -> None:
    """Where pytest could not even start there is nothing to read."""
    assert main(tmp_path / "report.xml") == 1
