"""How the processes of pytest-xdist share the tests out.

Most tests wait most of their time, so that many processes keep few cores busy. Each has
a shared cluster of its own, and the fixtures of a module once: so a process gets the
tests of a module that use the same executors together, and the tests of the cluster
tier, which wait longest, one by one.
"""

from __future__ import annotations

import re

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

_ONE_BY_ONE = ("tests/cluster/", "tests/contract/test_cpython_suite.py")

#: The last tests of a run are short ones, else all wait for a long one that came late.
_LONG_TESTS_END_AT = 0.7

_KIND = re.compile(r"\[(process_pool|local|pool|slurm)\b")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out the tests of a module and a kind of executor together."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if path.startswith(_ONE_BY_ONE):
            return nodeid
        kind = _KIND.search(nodeid)
        return f"{path}::{kind[1] if kind else ''}"


def make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Make the scheduler; it keeps to the order of the tests."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def mix(items: list[pytest.Item]) -> list[pytest.Item]:
    """Spread the tests that wait over those that calculate."""
    waiting = [item for item in items if item.nodeid.startswith(_ONE_BY_ONE)]
    others = [item for item in items if not item.nodeid.startswith(_ONE_BY_ONE)]
    capacity = {
        item: index / len(part) * end
        for part, end in ((waiting, _LONG_TESTS_END_AT), (others, 1))
        for index, item in enumerate(part)
    }
    return sorted(items, key=capacity.__getitem__)
