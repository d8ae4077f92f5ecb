"""What calls have used, as they have measured it on their nodes (`node/usage.py`).

Of one call, and of many together with advice: from a living executor, or from what lies
on the disk.
"""

from __future__ import annotations

import contextlib
import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from struct import Struct
from time import time as now
from typing import Any

from slurm_futures.errors import OptionError
from slurm_futures.node.formats import HAD_CHILDREN, USAGE_NUMBERS
from slurm_futures.schedulers.quantities import (
    format_time,
    parse_count,
    parse_memory,
    parse_time,
)
from slurm_futures.schedulers.sbatch_options import SbatchOptions

__all__ = ["Usage", "UsageSummary", "UsageTally", "now", "read_usage"]

#: Options that say how much of something a job gets; of these a summary always tells.
_ALWAYS = ("time", "mem", "cpus_per_task")
_OPTIONS = (*_ALWAYS, "mem_per_cpu", "mem_per_gpu")
#: Their values.
_Asked = tuple[str | None, ...]
_Advice = dict[str, str]
#: The quantiles that are told.
_SHARES = (0.5, 0.95, 1.0)
#: So many calls are enough for advice.
_ENOUGH = 10
#: What is advised has so much room above the largest, and saves a quarter at least.
_MARGIN, _GAIN = 1.25, 0.75
#: Seconds: what is shorter says little about the CPUs of a call.
_LONG = 1.0
_MIB = 1 << 20
#: Of a record, without the time of the start.
_NUMBERS = Struct("<dddQB")
_START = USAGE_NUMBERS.size - _NUMBERS.size


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call has used; None where that is not known.

    Attributes:
        waited: seconds from its submission to its start, by the clocks of two machines.
        elapsed: seconds that it took.
        cpu: seconds of CPU of its process, and of the children that it has waited for.
        max_rss: the most memory that its process, or a child, has had, in bytes, with
            what earlier calls have left there. Of calls of less than a millisecond it
            is known only for the first in a process.
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


class UsageTally:
    """The numbers of many calls, by what their jobs have asked for.

    It takes 33 bytes for each call. One thread adds, any other may read.
    """

    def __init__(self) -> None:
        self._kinds: dict[_Asked, bytearray] = {}
        self._options: SbatchOptions | None = None  # those of the last call
        self._records = bytearray()

    def add(self, options: SbatchOptions, record: bytes) -> None:
        """Count a call that has left this record, in a job with these options."""
        if options is not self._options:
            given = {name: str(value) for name, value in options.items}
            asked = tuple(given.get(name) for name in _OPTIONS)
            self._records = self._kinds.setdefault(asked, bytearray())
            self._options = options
        self._records += record[_START : USAGE_NUMBERS.size]

    def summarize(self, *, advise_time: bool) -> UsageSummary:
        """Return what people want to know.

        Args:
            advise_time: whether the time limit is one of calls, not of workers.
        """
        kinds = {asked: bytes(each) for asked, each in list(self._kinds.items())}
        found = [
            _Numbers(records).summarize(asked, advise_time)
            for asked, records in kinds.items()
        ]
        if len(found) == 1:
            return found[0]
        common = tuple(
            values[0] if len(set(values)) == 1 else None
            for values in zip(*kinds, strict=True)
        ) or (None,) * len(_OPTIONS)
        total = _Numbers(b"".join(kinds.values())).summarize(common, advise_time)
        return replace(total, advice={}, kinds=tuple(found))


class _Numbers:
    """Those of calls whose jobs have asked for the same.

    Attributes:
        job_seconds: how long jobs took at most to the end of a call.
        busiest: CPUs that a call has used, on average of its time, at most.
        had_children: whether any call had processes of its own.
    """

    def __init__(self, records: bytes) -> None:
        self.elapsed, self.cpu = array("d"), array("d")
        self.max_rss = array("Q")
        self.job_seconds = self.busiest = 0.0
        self.had_children = False
        for elapsed, cpu, job_seconds, memory, flags in _NUMBERS.iter_unpack(records):
            self.elapsed.append(elapsed)
            self.cpu.append(cpu)
            if memory:
                self.max_rss.append(memory)
            self.job_seconds = max(self.job_seconds, job_seconds)
            if elapsed >= _LONG:
                self.busiest = max(self.busiest, cpu / elapsed)
            if flags & HAD_CHILDREN:
                self.had_children = True

    def summarize(self, asked: _Asked, advise_time: bool) -> UsageSummary:
        """Return what people want to know of these calls."""
        given = dict(zip(_OPTIONS, asked, strict=True))
        calls = len(self.elapsed)
        return UsageSummary(
            calls=calls,
            elapsed=_quantiles(self.elapsed),
            cpu=_quantiles(self.cpu),
            max_rss=_quantiles(self.max_rss),
            asked={
                name: value
                for name, value in given.items()
                if value is not None or name in _ALWAYS
            },
            advice=self._advise(given, advise_time) if calls >= _ENOUGH else {},
        )

    def _advise(self, asked: Mapping[str, str | None], advise_time: bool) -> _Advice:
        advice: _Advice = {}
        with contextlib.suppress(OptionError):  # a value that only sbatch understands
            cpus = self._advise_cpus(asked)
            memory = self._advise_memory(asked, cpus)
            # Fewer CPUs may have less memory, which must be known to be enough.
            if asked["mem_per_cpu"] is None or len(memory) == 1:
                advice |= cpus
            advice |= memory
        if advise_time and asked["time"] is not None:
            with contextlib.suppress(OptionError):
                limit = parse_time(asked["time"]) or math.inf
                wanted = max(_MARGIN * self.job_seconds, self.job_seconds + 60)
                minutes = math.ceil(wanted / 60)
                if minutes * 60 <= _GAIN * limit:
                    advice["time"] = _clock(minutes * 60)
        return advice

    def _advise_cpus(self, asked: Mapping[str, str | None]) -> _Advice:
        given = asked["cpus_per_task"]
        wanted = math.ceil(round(self.busiest, 2))
        # That is an average: for some time a call may have used more.
        if given is None or not 0 < wanted <= parse_count(given) / 2:
            return {}
        return {"cpus_per_task": str(wanted)}

    def _advise_memory(self, asked: Mapping[str, str | None], cpus: _Advice) -> _Advice:
        # Of several processes only the largest is known.
        if self.had_children or not self.max_rss:
            return {}
        largest = max(self.max_rss) / _MIB
        wanted = max(_MARGIN * largest, largest + 100)
        if asked["mem"] is not None:
            given, parts, name = parse_memory(asked["mem"]), 1, "mem"
        elif asked["mem_per_cpu"] is not None:
            name, count = "mem_per_cpu", parse_count(asked["cpus_per_task"] or "1")
            given = parse_memory(asked[name]) * count
            parts = parse_count(cpus.get("cpus_per_task", count))
        else:
            return {}
        text = _round_memory(wanted / parts)
        gain = parse_memory(text) * parts <= _GAIN * (given or math.inf)  # 0: all
        return {name: text} if gain else {}


@dataclass(frozen=True)
class UsageSummary:
    """What many calls have used; its `str` is for people.

    Attributes:
        calls: how many have told it.
        elapsed: seconds, by quantile: 0.5, 0.95 and 1.0, the largest.
        cpu: seconds of CPU.
        max_rss: bytes of memory of the largest process of a call, where it is known.
        asked: what their jobs had asked Slurm for, in its words: time, mem and
            cpus_per_task, and other options for memory; None: nothing, or not all of
            them the same.
        advice: options that would do, with head-room above the largest; empty where few
            calls have told, or little would be gained. For memory only where no call
            had processes of its own.
        kinds: the same for those that asked for the same, if not all of them did.
    """

    calls: int
    elapsed: dict[float, float]
    cpu: dict[float, float]
    max_rss: dict[float, float]
    asked: dict[str, str | None]
    advice: dict[str, str]
    kinds: tuple[UsageSummary, ...] = ()

    def __str__(self) -> str:
        if not self.calls:
            return "No call has told yet what it has used."
        count = f"{self.calls:,} call{'s' if self.calls > 1 else ''}"
        if self.kinds:
            lines = [f"{count}, of which"]
            return "\n  ".join([*lines, *map(str, self.kinds)])
        told = []
        if self.max_rss:
            memory = f"memory 95 % below {_size(self.max_rss[0.95])}"
            told.append(memory + self._asked("mem", "mem_per_cpu", "mem_per_gpu"))
        told.append(f"longest {_clock(self.elapsed[1.0])}" + self._asked("time"))
        text = f"{count}: {'; '.join(told)}."
        if self.advice:
            options = [f"{name}={value!r}" for name, value in self.advice.items()]
            text += f" {', '.join(options)} would do."
        return text

    def _asked(self, *names: str) -> str:
        for name in names:
            value = self.asked.get(name)
            if value is not None:
                _, per, what = name.partition("_per_")
                return f", asked {value}" + (f" per {what.upper()}" if per else "")
        return ""


def _quantiles(values: array[Any]) -> dict[float, Any]:
    ordered = sorted(values)
    return {
        share: ordered[math.ceil(share * len(ordered)) - 1]
        for share in _SHARES
        if ordered
    }


def _round_memory(mebibytes: float) -> str:
    if mebibytes > 2048:
        return f"{math.ceil(mebibytes / 1024)}G"
    return f"{math.ceil(mebibytes / 100) * 100}M"


def _size(count: float) -> str:
    """Return a number of bytes, rounded up: what is below it stays so."""
    mebibytes = count / _MIB
    if mebibytes > 1000:
        return f"{math.ceil(10 * mebibytes / 1024) / 10:g}G"
    return f"{math.ceil(mebibytes)}M"


def _clock(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.2g} s"
    text = format_time(seconds)
    return text.removeprefix("0:").removeprefix("0") if seconds < 3600 else text
