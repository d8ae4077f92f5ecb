"""How Slurm 22.05 prints array indices and lines of squeue."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slurm_futures.schedulers.base import JobId, Row

_FEW = 5  # so many evenly spaced indices are still printed one by one


def format_indices(ranges: Sequence[range]) -> str:
    """Print ascending array indices as Slurm does: `0-3,7` or `0-20:2`."""
    firsts = [indices[0] for indices in ranges]
    if all(len(indices) == 1 for indices in ranges) and len(ranges) > _FEW:
        steps = {second - first for first, second in itertools.pairwise(firsts)}
        if len(steps) == 1:
            return f"{firsts[0]}-{firsts[-1]}:{steps.pop()}"
    return ",".join(
        str(indices[0]) if len(indices) == 1 else f"{indices[0]}-{indices[-1]}"
        for indices in ranges
    )


def parse_indices(text: str) -> Iterator[int]:
    """Read `1,4-9`."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def expand(template: str, job: JobId, row: Row, indices: str) -> str:
    """Print a line of squeue, as `-o` wants it."""
    values = {"F": str(job), "K": indices, "t": row.state.value, "r": row.reason}
    values["Z"] = row.directory
    return re.sub("%([FKtrZ])", lambda code: values[code[1]], template)
