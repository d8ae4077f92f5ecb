"""Let thousands of calls of mixed fate run on a real Slurm that has a bad day.

    python benchmarks/soak.py --n 2000

It starts a Slurm of its own on this machine (see tests/slurm), restarts its
controller and kills one of its nodes on the way, and sees that each call has exactly
one end of the right kind, that no call ran twice, and that no thread, process, file
descriptor or job is left. Prints the figures; the exit code tells whether all was well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cluster.soak import soak


def main() -> int:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description="A soak on real Slurm.")
    parser.add_argument("--n", type=int, default=2000, help="number of calls")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of fates")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        report = soak(words.n, Path(directory), words.timeout, seed=words.seed)
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
