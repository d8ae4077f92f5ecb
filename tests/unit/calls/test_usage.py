"""What calls have used, as people see it."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.usage import Usage, UsageSummary, UsageTally, read_usage
from slurm_futures.node.formats import HAD_CHILDREN, USAGE_NUMBERS
from slurm_futures.schedulers.sbatch_options import OptionValue, SbatchOptions

START = 1_800_000_000.0  #: epoch seconds
MEGABYTE = 1 << 20


def record(
    elapsed: float = 1.0,
    cpu: float = 0.5,
    memory: float = 100,
    *,
    total: float | None = None,
    children: bool = False,
) -> bytes:
    """Return what a call leaves: seconds, and megabytes."""
    numbers = START, elapsed, cpu, elapsed if total is None else total
    flags = HAD_CHILDREN if children else 0
    return USAGE_NUMBERS.pack(*numbers, round(memory * MEGABYTE), flags) + b"c17"


def test_usage_of_a_call() -> None:
    """In seconds and bytes, with the times of a clock."""
    started = datetime.fromtimestamp(START, UTC)

    assert read_usage(record(1.5, 0.5, 100), START - 10) == Usage(
        waited=10,
        elapsed=1.5,
        cpu=0.5,
        max_rss=100 * MEGABYTE,
        node="c17",
        started_at=started,
        ended_at=started + timedelta(seconds=1.5),
    )


def test_what_is_not_known_is_none() -> None:
    """Memory that nobody has measured; a wait that would be negative."""
    usage = read_usage(record(memory=0), START + 1)

    assert usage is not None
    assert usage.max_rss is None
    assert usage.waited is None
    assert read_usage(b"", START) is None


def test_future_has_no_usage_before_its_call_is_over() -> None:
    """It may still be tried again."""
    future: SlurmFuture[int] = SlurmFuture()
    assert future.usage is None

    future.set_result(1)

    assert future.usage is None  # none was told


def tally(*records: bytes, times: int = 1, **options: OptionValue) -> UsageTally:
    """Count these calls, each so many times, in jobs with these options."""
    made = UsageTally()
    count(made, *records * times, **options)
    return made


def count(made: UsageTally, *records: bytes, **options: OptionValue) -> None:
    """Count more calls."""
    checked = SbatchOptions.check(options)
    for each in records:
        made.add(checked, each)


def summarize(made: UsageTally) -> UsageSummary:
    """Sum up calls with jobs of their own."""
    return made.summarize(advise_time=True)


def advise(*records: bytes, times: int = 100, **options: OptionValue) -> dict[str, str]:
    """Return the advice for so many calls of each."""
    return summarize(tally(*records, times=times, **options)).advice


def test_summary_is_a_line_for_people() -> None:
    """With advice that can be typed."""
    many = [record(100, 90, 2000)] * 1950 + [record(250, 90, 2150)] * 50
    text = str(summarize(tally(*many, mem="16G", time="1:00:00")))

    assert text == (
        "2,000 calls: memory 95 % below 2G, asked 16G; longest 4:10, asked 1:00:00. "
        "mem='3G', time='6:00' would do."
    )


def test_summary_has_quantiles_and_what_was_asked() -> None:
    """The largest, too; memory only of calls of which it is known."""
    records = [record(each, each / 2, each * 10) for each in range(1, 101)]

    summary = summarize(tally(*records, record(50, 1, 0), mem="4G"))

    assert summary.calls == 101
    assert summary.elapsed == {0.5: 50, 0.95: 95, 1.0: 100}
    assert summary.cpu[1.0] == 50
    assert summary.max_rss == {
        0.5: 500 * MEGABYTE,
        0.95: 950 * MEGABYTE,
        1.0: 1000 * MEGABYTE,
    }
    assert summary.asked == {"time": None, "mem": "4G", "cpus_per_task": None}


def test_no_call_has_no_summary() -> None:
    """Nor what was asked."""
    summary = summarize(UsageTally())

    assert summary.calls == 0
    assert (summary.elapsed, summary.max_rss, summary.advice) == ({}, {}, {})
    assert summary.asked == {"time": None, "mem": None, "cpus_per_task": None}
    assert str(summary) == "No call has told yet what it has used."


@pytest.mark.parametrize(
    ("asked", "memory", "advice"),
    [
        ("16G", 2400, "3G"),
        (" +16GB", 2400, "3G"),
        (16384, 2400, "3G"),
        ("1T", 100_000, "123G"),
        ("4194304K", 100, "200M"),
        ("1G", 10, "200M"),
        ("0", 1500, "1900M"),  # all of the node
        ("3G", 2400, None),
        ("300M", 150, None),
        (None, 150, None),
    ],
)
def test_advice_for_memory(
    asked: str | int | None, memory: float, advice: str | None
) -> None:
    """With room above the largest, and where something is gained."""
    assert advise(record(memory=memory), mem=asked).get("mem") == advice


@pytest.mark.parametrize(
    ("asked", "seconds", "advice"),
    [
        ("1:00:00", 250, "6:00"),
        (60, 250, "6:00"),
        ("1-", 250, "6:00"),
        ("1-12", 40_000, "13:54:00"),
        ("unlimited", 3000, "1:03:00"),
        ("10:30", 1, "2:00"),
        ("6:00", 250, None),
        (1, 0.1, None),
        (None, 250, None),
    ],
)
def test_advice_for_time(
    asked: str | int | None, seconds: float, advice: str | None
) -> None:
    """The same."""
    assert advise(record(seconds), time=asked).get("time") == advice


def test_advice_for_time_counts_what_a_job_took() -> None:
    """All calls of a chunk, and the initializer."""
    assert advise(record(10, total=250), time="1:00:00") == {"time": "6:00"}


def test_time_of_workers_is_not_that_of_calls() -> None:
    """They take call after call."""
    made = tally(record(10), times=100, time="1:00:00")

    assert made.summarize(advise_time=False).advice == {}


@pytest.mark.parametrize(
    ("asked", "seconds", "cpu", "advice"),
    [
        (8, 10, 10, "1"),
        ("+1k", 10, 25, "3"),
        (8, 10, 45, None),  # an average: sometimes it may have used all
        (2, 10, 19, None),
        (8, 0.01, 0.01, None),  # too short to tell
        (None, 10, 10, None),
    ],
)
def test_advice_for_cpus(
    asked: str | int | None, seconds: float, cpu: float, advice: str | None
) -> None:
    """As many as the busiest call has used."""
    advised = advise(record(seconds, cpu), cpus_per_task=asked)

    assert advised.get("cpus_per_task") == advice


@pytest.mark.parametrize(
    ("cpu", "memory", "advice"),
    [
        (40, 1000, {"mem_per_cpu": "400M"}),
        (10, 1000, {"cpus_per_task": "1", "mem_per_cpu": "1300M"}),
        (40, 14_000, {}),
        (10, 14_000, {}),  # one CPU would not have the memory
        (10, 0, {}),
    ],
)
def test_memory_by_cpu_goes_with_the_cpus(
    cpu: float, memory: float, advice: dict[str, str]
) -> None:
    """Fewer CPUs have less of it."""
    call = record(10, cpu, memory)

    assert advise(call, cpus_per_task=4, mem_per_cpu="4G") == advice


def test_no_advice_for_memory_where_calls_have_processes() -> None:
    """Only the largest of them is known, and all of them count for Slurm."""
    calls = record(memory=100), record(memory=100, children=True)

    assert advise(*calls, mem="16G") == {}


def test_no_advice_from_few_calls() -> None:
    """The next one may need more."""
    assert advise(record(), times=5, mem="16G", time="1:00:00") == {}


def test_value_that_only_sbatch_understands_leaves_the_rest_of_the_advice() -> None:
    """No error, and no advice for that."""
    made = UsageTally()
    for _ in range(100):
        made.add(SbatchOptions((("mem", "16X"), ("time", "1:00:00"))), record(250))

    assert summarize(made).advice == {"time": "6:00"}


def test_calls_that_asked_for_different_things_are_told_apart() -> None:
    """What all of them have asked for stands for all."""
    made = tally(record(memory=100), times=90, mem="1G", time=60)
    count(made, *[record(memory=9000)] * 10, mem="40G", time=60)

    summary = summarize(made)

    assert summary.calls == 100
    assert summary.max_rss[0.95] == 9000 * MEGABYTE
    assert summary.asked == {"time": "60", "mem": None, "cpus_per_task": None}
    assert summary.advice == {}
    assert [each.advice["mem"] for each in summary.kinds] == ["200M", "11G"]
    assert str(summary).splitlines() == [
        "100 calls, of which",
        "  90 calls: memory 95 % below 100M, asked 1G; longest 1 s, asked 60. "
        "mem='200M', time='2:00' would do.",
        "  10 calls: memory 95 % below 8.8G, asked 40G; longest 1 s, asked 60. "
        "mem='11G', time='2:00' would do.",
    ]


def test_summary_names_memory_by_cpu() -> None:
    """In sbatch's words."""
    text = str(summarize(tally(record(memory=2050), mem_per_cpu="2G")))

    assert text == "1 call: memory 95 % below 2.1G, asked 2G per CPU; longest 1 s."


def test_many_calls_take_little_memory() -> None:
    """Numbers in arrays, no objects."""
    made = tally(record(), mem="16G")
    call, options = record(), SbatchOptions.check({"mem": "16G"})
    tracemalloc.start()

    for _ in range(20_000):
        made.add(options, call)

    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 1_000_000
