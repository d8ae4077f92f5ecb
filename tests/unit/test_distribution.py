"""How the tests are shared out among processes."""

from __future__ import annotations

from collections import namedtuple
from typing import Any, cast

import pytest

pytest.importorskip(
    "xdist", reason="needs pytest-xdist: pip install slurm-futures[test]"
)

from tests.distribution import Scheduling, mix

_Item = namedtuple("_Item", "nodeid")


def _scope(nodeid: str) -> str:
    # It needs no part of the scheduler, which wants a whole configuration of pytest.
    return str(Scheduling._split_scope(cast("Any", None), nodeid))


def test_tests_of_a_module_and_a_kind_stay_together() -> None:
    """They share an executor, which is made once."""
    module = "tests/contract/test_map.py"

    assert _scope(f"{module}::test_a[slurm-1]") == _scope(f"{module}::test_b[slurm]")
    assert _scope(f"{module}::test_a[slurm-1]") != _scope(f"{module}::test_a[local-1]")


def test_tests_of_the_cluster_tier_are_handed_out_one_by_one() -> None:
    """They wait long."""
    module = "tests/cluster/test_pool.py"

    assert _scope(f"{module}::test_a") != _scope(f"{module}::test_b")


def test_long_tests_are_spread_and_do_not_come_last() -> None:
    """All processes end at about the same time."""
    long = [_Item(f"tests/cluster/test_a.py::test_{each}") for each in range(3)]
    short = [_Item(f"tests/unit/test_a.py::test_{each}") for each in range(30)]
    items = cast("list[pytest.Item]", [*long, *short])

    mixed = mix(items)

    assert set(mixed) == set(items)
    assert [mixed.index(each) for each in cast("list[pytest.Item]", long)] == [0, 8, 16]
