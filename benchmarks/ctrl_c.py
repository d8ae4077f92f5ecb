"""Interrupt hundreds of programs on a real Slurm, each at a random moment.

    python -m benchmarks.ctrl_c --n 300

It starts a Slurm of its own on this machine (see tests/slurm). Each program has to end
soon, and to leave nothing in the queue. The exit code tells whether all was well.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cluster.ctrl_c import interrupt_programs
from tests.slurm import SlurmCluster


def main() -> int:
    """Read the command line, run, report."""
    parser = argparse.ArgumentParser(description="Ctrl-C at random moments.")
    parser.add_argument("--n", type=int, default=300, help="number of programs")
    parser.add_argument("--seed", type=int, default=0, help="of all choices")
    words = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ctrl-c-") as directory,
        SlurmCluster() as cluster,
    ):
        os.environ.update(cluster.environment)
        counts, problems = interrupt_programs(
            cluster, Path(directory), words.n, words.seed
        )
    for name, count in sorted(counts.items()):
        print(f"{count:5} {name}")
    print(*problems, sep="\n")
    print(f"{words.n} programs interrupted, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
