"""The files of a cluster fit the release of Slurm that reads them."""

from pathlib import Path

import pytest

from tests.slurm import ClusterOptions
from tests.slurm.configuration import Configuration
from tests.slurm.layout import Layout

LAYOUT = Layout(Path("/tmp/slurm-20100"), 20_100)


def configure(options: ClusterOptions, version: tuple[int, int]) -> Configuration:
    """Make a configuration without starting anything."""
    return Configuration(options, LAYOUT, "someone", version)


def test_one_node_is_not_a_range() -> None:
    """Slurm wants no brackets around a single number."""
    text = configure(ClusterOptions(nodes=1), (22, 5)).slurm_conf()

    assert "NodeName=n1 NodeAddr=127.0.0.1 Port=20110 CPUs=8" in text


def test_several_nodes_are_a_range() -> None:
    """One line of slurm.conf names all nodes and their ports."""
    text = configure(ClusterOptions(nodes=4), (22, 5)).slurm_conf()

    assert "NodeName=n[1-4] NodeAddr=127.0.0.1 Port=[20110-20113] CPUs=8" in text


def test_words_for_the_scheduler_are_one_setting() -> None:
    """The last SchedulerParameters would win, so there is only one."""
    options = ClusterOptions(max_array_tasks=10, scheduler_parameters=("defer",))

    lines = configure(options, (22, 5)).slurm_conf().splitlines()

    [setting] = [x for x in lines if x.startswith("SchedulerParameters=")]
    assert setting.endswith(",bf_interval=1,max_array_tasks=10,defer")


def test_default_scheduling_says_nothing() -> None:
    """Slurm's own default is what it does without a word from us."""
    options = ClusterOptions(scheduling="default")

    assert "SchedulerParameters" not in configure(options, (22, 5)).slurm_conf()


@pytest.mark.parametrize(
    ("version", "wanted", "unknown"),
    [
        pytest.param((20, 11), "CgroupAutomount=no", "CgroupPlugin=", id="20.11"),
        pytest.param((22, 5), "CgroupPlugin=", "CgroupAutomount=", id="22.05"),
        pytest.param((26, 5), "CgroupPlugin=", "CgroupAutomount=", id="26.05"),
    ],
)
def test_cgroup_settings_follow_the_release(
    version: tuple[int, int], wanted: str, unknown: str
) -> None:
    """A release ends with an error at a name it does not know."""
    options = ClusterOptions(memory_enforcement="cgroup")

    text = configure(options, version).cgroup_conf()

    assert wanted in text
    assert unknown not in text


def test_nodes_with_cgroups_have_names_of_their_own() -> None:
    """Slurm's cgroups are named by the node, and a host has only one tree of them."""
    options = ClusterOptions(nodes=2, memory_enforcement="cgroup")

    assert configure(options, (22, 5)).node_names == ["c20100n1", "c20100n2"]


@pytest.mark.parametrize("nodes", [0, 91])
def test_a_block_of_ports_limits_the_nodes(nodes: int) -> None:
    """Too many nodes are refused before anything starts."""
    with pytest.raises(ValueError, match="1 to 90"):
        ClusterOptions(nodes=nodes)


def test_limits_need_accounting() -> None:
    """Enforcing without a database would stop slurmctld."""
    with pytest.raises(ValueError, match="accounting=True"):
        ClusterOptions(accounting_enforce="qos")
