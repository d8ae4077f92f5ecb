"""Tells what became of the tests, from pytest's XML files, and what was left out.

    python -m tests.skips build/checks/*.xml

The exit code is 1 if a test failed, or was skipped for a reason that `_EXPECTED` does
not list, or if the tests of a whole tier are missing.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Reasons of tests that may be skipped, and why nothing can be done about it.
_EXPECTED = {
    "the file system cannot be remounted while files are open": "so does the kernel: "
    "a machine of its own would be needed, whose file systems are mounted for the test",
    "CPython cannot start threads at exit: needs 3.12.2": "a bug of an old 3.12",
    "looks at the processes, queues or threads of a pool": "we have none; this and the "
    "following are in _LEFT_OUT of tests/contract/test_cpython_suite.py",
    "passes on a proxy that only children may use": "our jobs are no children",
    "wants the call to print to our stdout": "our jobs have files of their own",
    "wants a call to have started 1 ms after its submit": "no job starts so soon",
    "breaks a pool; here only this call fails": "on purpose",
    "Windows-only process limit": "says CPython itself",
}

#: The same for other Pythons than the first: those of Debian alone have all packages.
_EXPECTED_OF_OTHERS = {
    "needs CPython's test suite": "some builds of Python come without",
}

#: Each must have tests that passed in the first report.
_TIERS = ("unit", "contract", "cluster", "integration", "slurm")
_FIRST = "tests"

_WHOLE_MODULE = "collection skipped"


def summarize(name: str, xml: str) -> tuple[list[str], bool]:
    """Count the tests of a report by outcome, and name what is not as it should be.

    Args:
        name: "tests" for the first Python, which has all tiers.
        xml: What pytest wrote.

    Returns:
        Lines to print, and whether all is well.
    """
    # Our own pytest wrote it: nothing to defend against.
    suite = next(ElementTree.fromstring(xml).iter("testsuite"))  # noqa: S314
    cases = list(suite.iter("testcase"))
    counts = Counter(map(_outcome, cases))
    counted = ", ".join(f"{counts[each]} {each}" for each in sorted(counts))
    lines = [f"{name}: {counted} in {float(suite.get('time', 0)):.0f} s"]

    expected = _EXPECTED | ({} if name == _FIRST else _EXPECTED_OF_OTHERS)
    faults = [*_failures(cases), *_left_out(cases, expected)]
    if name == _FIRST:
        faults += _missing_tiers(cases)
    return lines + faults, not faults


def _outcome(case: ElementTree.Element) -> str:
    children = {child.tag: child for child in case}
    if "failure" in children or "error" in children:
        return "failed"
    skipped = children.get("skipped")
    if skipped is None:
        return "passed"
    return "xfailed" if skipped.get("type") == "pytest.xfail" else "skipped"


def _failures(cases: Iterable[ElementTree.Element]) -> Iterator[str]:
    for case in cases:
        if _outcome(case) == "failed":
            yield f"  FAILED: {case.get('classname')}::{case.get('name')}"


def _left_out(
    cases: Iterable[ElementTree.Element], expected: Iterable[str]
) -> Iterator[str]:
    """Name the reasons that nobody has listed, with the number of tests for each."""
    for reason, count in Counter(_reasons(cases)).items():
        if not any(re.search(re.escape(each), reason) for each in expected):
            yield f"  LEFT OUT: {count} x {reason}"


def _reasons(cases: Iterable[ElementTree.Element]) -> Iterator[str]:
    for case in cases:
        if _outcome(case) == "skipped":
            for skipped in case.iter("skipped"):
                reason = skipped.get("message", "")
                # That of a whole module stands elsewhere.
                yield (skipped.text or "") if reason == _WHOLE_MODULE else reason


def _missing_tiers(cases: Iterable[ElementTree.Element]) -> Iterator[str]:
    passed = [case.get("classname", "") for case in cases if _outcome(case) == "passed"]
    for tier in _TIERS:
        if not any(name.startswith(f"tests.{tier}.") for name in passed):
            yield f"  LEFT OUT: all tests of the tier {tier}"


def main(paths: list[Path]) -> int:
    """Print what became of the tests in these reports; return the exit code."""
    fine = any(path.stem == _FIRST for path in paths)
    if not fine:
        print(f"There is no report of the first Python: {_FIRST}.xml")
    for path in paths:
        lines, well = summarize(path.stem, path.read_text("utf-8"))
        print("\n".join(lines))
        fine &= well
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main(list(map(Path, sys.argv[1:]))))
