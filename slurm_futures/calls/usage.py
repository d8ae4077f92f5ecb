"""What calls have used, as they have measured it on their nodes (`node/usage.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from time import time as now

from slurm_futures.node.formats import USAGE_NUMBERS

__all__ = ["Usage", "now", "read_usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call has used; None where that is not known.

    Attributes:
        waited: seconds from its submission to its start, by the clocks of two machines.
        elapsed: seconds that it took.
        cpu: seconds of CPU of its process, and of the children that it has waited for.
        max_rss: the most memory that its process, or a child, has had, in bytes. (In a
            long-lived worker that includes what earlier calls have left there.)
        node: where it ran.
        started_at: when, by the clock of the node.
        ended_at: when.
    """

    waited: float | None
    elapsed: float | None
    cpu: float | None
    max_rss: int | None
    node: str | None
    started_at: datetime | None
    ended_at: datetime | None


def read_usage(record: bytes, submitted_at: float) -> Usage | None:
    """Return what a record of a call tells; None if it is none.

    Args:
        record: as `formats.py` has it.
        submitted_at: epoch seconds by the clock of the client.
    """
    if len(record) < USAGE_NUMBERS.size:
        return None
    start, elapsed, cpu, _, memory, _ = USAGE_NUMBERS.unpack_from(record)
    waited = start - submitted_at
    return Usage(
        waited=waited if waited >= 0 else None,  # else the clocks differ
        elapsed=elapsed,
        cpu=cpu,
        max_rss=memory or None,
        node=record[USAGE_NUMBERS.size :].decode("utf-8", "replace") or None,
        started_at=datetime.fromtimestamp(start, UTC),
        ended_at=datetime.fromtimestamp(start + elapsed, UTC),
    )
