"""The short form of the soak: see soak.py."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from tests.cluster.soak import OPTIONS, Soak
from tests.slurm import StartCluster

pytestmark = pytest.mark.cluster


def test_150_calls_on_a_bad_day(start_cluster: StartCluster, tmp_path: Path) -> None:
    """One end for each call, whatever its fate, and nothing is left."""
    cluster = start_cluster(**asdict(OPTIONS))

    report = Soak(cluster, tmp_path).run(150, timeout=150)

    print(report)
    assert report.problems == []
