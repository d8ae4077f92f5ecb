"""The short form of the campaign: see ctrl_c.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.ctrl_c import interrupt_programs
from tests.slurm import SlurmCluster

pytestmark = pytest.mark.cluster


def test_ctrl_c_at_ten_random_moments(slurm: SlurmCluster, tmp_path: Path) -> None:
    """Each program ends soon, and nothing of it stays in the queue."""
    _, problems = interrupt_programs(slurm, tmp_path, 10, seed=1)

    assert problems == []
