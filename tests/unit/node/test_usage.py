"""What a call has used, as its own process measures it; each test in a new one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

MEGABYTE = 1 << 20

#: What each program begins with: `measure` runs a call.
_BEGIN = """
import json, os, subprocess, sys, time
from slurm_futures.node import usage
from slurm_futures.node.formats import USAGE_NUMBERS

def take(megabytes, seconds=0.01):
    data = bytearray(megabytes << 20)
    until = time.process_time() + seconds
    while time.process_time() < until: pass

def let_child_take(megabytes):
    code = f"x = bytearray({megabytes} << 20)"
    subprocess.run([sys.executable, "-S", "-E", "-c", code], check=True)

def measure(function, *args):
    meter.begin()
    function(*args)
    record = meter.end()
    numbers = USAGE_NUMBERS.unpack_from(record)
    node = record[USAGE_NUMBERS.size:].decode()
    names = "start elapsed cpu total memory flags".split()
    return dict(zip(names, numbers), node=node)

meter = usage.Meter()
"""


def run(*lines: str) -> Any:
    """Run a program; return the list `found` that it has made."""
    code = "\n".join([_BEGIN, "found = []", *lines, "print(json.dumps(found))"])
    return json.loads(run_python(code))


def run_python(*words: str) -> str:
    """Run Python by way of a shell, as jobs do; return what it prints.

    Started from here it would seem to have had the memory of this process.
    """
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "", sys.executable, "-c", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def memory_of(*lines: str) -> list[float]:
    """Run calls; return the megabytes of each."""
    return [each["memory"] / MEGABYTE for each in run(*lines)]


def test_times_and_node_of_a_call() -> None:
    """CPU is that of the call alone; waiting is none."""
    lines = (
        "os.environ['SLURMD_NODENAME'] = 'c17'; meter = usage.Meter()",
        "take(1, 0.2)",
        "before = time.time()",
        "found.append(measure(take, 1, 0.1))",
        "found.append(measure(time.sleep, 0.1))",
        "found.append(before)",
    )

    busy, idle, before = run(*lines)

    assert busy["node"] == "c17"
    assert 0.1 <= busy["cpu"] <= busy["elapsed"] + 0.001 < busy["total"]
    assert busy["start"] >= before
    assert idle["cpu"] < 0.1 <= idle["elapsed"]
    assert idle["total"] > busy["total"] + 0.1


def test_memory_is_that_of_each_call() -> None:
    """Not the highest of all calls of the process; with a margin for Python itself."""
    first, second, third, fourth = memory_of(
        "for size in 200, 10, 100, 10: found.append(measure(take, size))"
    )

    assert 200 < first < 260
    assert second < 70
    assert 100 < third < 160
    assert fourth < 70


def test_of_short_calls_only_the_time_is_measured() -> None:
    """But for the first; those that come after them are measured as ever."""
    found = run(
        "found.append(measure(take, 200))",
        "found += [measure(abs, 1) for _ in range(5)]",
        "found.append(measure(take, 50))",
        "short = [measure(abs, 1) for _ in range(9)]",
        "found.append(min(short, key=lambda each: each['elapsed']))",
    )

    sizes = [each["memory"] / MEGABYTE for each in found]
    assert sizes[0] > 200
    assert 50 < sizes[6] < 100
    assert sizes[7] == 0
    assert 0 < found[7]["elapsed"] < 0.001


def test_memory_that_cannot_begin_anew_is_told_where_it_has_risen() -> None:
    """Never the number of another call."""
    sizes = memory_of(
        "usage._clear = lambda: False",
        "for size in 100, 10, 200, 10: found.append(measure(take, size))",
    )

    assert [round(each, -2) for each in sizes] == [100, 0, 200, 0]
    assert sizes[1] == sizes[3] == 0


def test_program_that_was_in_this_process_before_is_no_call() -> None:
    """Linux hands its highest on to the program that takes its place."""
    again = "import os, sys; x = bytearray(300 << 20); del x; os.execv(sys.executable, "
    code = f"[sys.executable, '-c', {_BEGIN!r} + sys.argv[1]])"
    calls = (
        "print(json.dumps([measure(take, size)['memory'] >> 20 "
        "for size in (10, 20, 400)]))"
    )

    first, second, third = json.loads(run_python(again + code, calls))
    assert 10 < first < 70
    assert second == 0
    assert third > 400


def test_children_count_once_they_are_waited_for() -> None:
    """Their time is added; of memory the largest process counts."""
    alone, child, other = run(
        "found.append(measure(take, 1))",
        "found.append(measure(let_child_take, 100))",
        "found.append(measure(let_child_take, 200))",
    )

    assert alone["flags"] == 0
    assert child["flags"] == other["flags"] == 1
    assert child["cpu"] > 0
    assert 100 < child["memory"] / MEGABYTE < 160
    assert 200 < other["memory"] / MEGABYTE < 260


def test_child_that_is_smaller_than_earlier_ones_is_not_known() -> None:
    """The system tells the largest of all; but a call may be larger than these."""
    _, small, large = memory_of(
        "found.append(measure(let_child_take, 100))",
        "found.append(measure(let_child_take, 50))",
        "found.append(measure(lambda: (take(200), let_child_take(50))))",
    )

    assert small == 0
    assert 200 < large < 260


def test_children_before_the_first_call_are_not_its_own() -> None:
    """Those of an initializer."""
    (none, small) = run(
        "let_child_take(100)",
        "found.append(measure(take, 1))",
        "found.append(measure(let_child_take, 50))",
    )

    assert none["flags"] == 0
    assert 0 < none["memory"] / MEGABYTE < 50
    assert small["memory"] == 0


@pytest.mark.parametrize(
    "line",
    [
        "time.time = time.monotonic = time.process_time = None",
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))",
        "def fail(_): raise ImportError\nusage.import_ours = fail",
    ],
)
def test_what_cannot_be_measured_is_left_out(line: str) -> None:
    """Whatever calls do to their process."""
    lines = ("measure(abs, 1)", line, "found += [measure(abs, 1), measure(abs, 1)]")

    first, second = run(*lines)

    assert 0 < first["elapsed"] < 60
    assert second["start"] >= first["start"]
