"""Tells what became of the cluster tier, from the XML file that pytest wrote.

    python -m tests.slurm.report build/slurm-26.05.xml

A test that was skipped because Slurm is missing makes the exit code 1.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

#: How the reasons of `slurm_available` and `accounting_available` begin.
_NO_SLURM = re.compile(r"needs Slurm(:|'s)")


def summarize(xml: str) -> tuple[str, bool]:
    """Count the tests by outcome, name those that did not pass, and say why.

    Returns:
        The text, and whether no test went without Slurm.
    """
    counts: Counter[str] = Counter(passed=0, failed=0, skipped=0)
    lines = []
    has_slurm = True
    # Our own pytest wrote it: nothing to defend against.
    for case in ElementTree.fromstring(xml).iter("testcase"):  # noqa: S314
        outcome, reason = _outcome(case)
        counts[outcome] += 1
        if outcome != "passed":
            lines.append(f"  {outcome}: {case.get('name')}: {reason}")
        has_slurm &= _NO_SLURM.match(reason) is None
    counted = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    return "\n".join([counted, *lines]), has_slurm


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    """Tell what became of a test, and the first line of why."""
    for tag, outcome in (("failure", "failed"), ("error", "failed")):
        if (found := case.find(tag)) is not None:
            return outcome, _first_line(found)
    if (found := case.find("skipped")) is not None:
        return "skipped", _first_line(found)
    return "passed", ""


def _first_line(element: ElementTree.Element) -> str:
    return element.get("message", "").partition("\n")[0]


def main(path: Path) -> int:
    """Print the summary of a file; return the exit code."""
    if not path.exists():
        print("pytest wrote no report: no test ran")
        return 1
    text, has_slurm = summarize(path.read_text("utf-8"))
    print(text)
    return 0 if has_slurm else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
