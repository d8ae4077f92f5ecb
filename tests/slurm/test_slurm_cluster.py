"""The throw-away Slurm does what the other tests rely on."""

import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm import (
    ClusterError,
    ClusterOptions,
    SlurmCluster,
    StartCluster,
    processes,
)
from tests.slurm.cgroup import cgroup_available
from tests.slurm.programs import accounting_available
from tests.waiting import assert_soon

pytestmark = pytest.mark.cluster

PATIENCE = 60  #: seconds; a loaded machine is slow

# Takes 300 MB and keeps them until somebody minds.
_GREEDY = "exec {python} -c 'import time; x = bytearray(300 << 20); time.sleep(60)'"

# Starts a cluster, says where, and stops it when its stdin is closed.
_HOLD_A_CLUSTER = """
import sys
from tests.slurm import ClusterOptions, SlurmCluster

with SlurmCluster(ClusterOptions(nodes=1)) as cluster:
    print(cluster.directory, flush=True)
    sys.stdin.read()
"""


def submit(cluster: SlurmCluster, script: str, *options: str) -> str:
    """Submit a line of shell and return the job id."""
    answer = cluster.run("sbatch", "--parsable", *options, "--wrap", script)
    return answer.strip()


def state(cluster: SlurmCluster, job_id: str) -> str:
    """Ask for the state of a job that slurmctld has not forgotten."""
    states = "-t", "all", "-o", "%T"
    return cluster.run("squeue", "-h", "-r", "-j", job_id, *states).strip()


def assert_state(cluster: SlurmCluster, job_id: str, expected: str) -> None:
    """Wait until a job is in a state."""
    assert_soon(
        lambda: state(cluster, job_id) == expected,
        PATIENCE,
        lambda: f"{job_id} is {state(cluster, job_id)}, not {expected}",
    )


def assert_running(cluster: SlurmCluster, expected: set[str]) -> None:
    """Wait until these commands are among the processes of a cluster."""
    assert_soon(lambda: expected <= commands(cluster.processes()), PATIENCE)


def another_user() -> str:
    """Choose an ordinary user for the daemons, when root runs the tests."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root can run daemons as another user")
    return "daemon"  # exists everywhere; Slurm 26.05 refuses "nobody"


def run_program(text: str) -> subprocess.Popen[str]:
    """Start Python from the root of the repository."""
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def line_of(program: subprocess.Popen[str]) -> str:
    """Wait for the next line that a program prints."""
    assert program.stdout is not None
    return program.stdout.readline().strip()


def commands(pids: set[int]) -> set[str]:
    """Tell what these processes are."""
    return {processes.command_line(pid) for pid in pids}


def mentioning(directory: str) -> set[int]:
    """Find all living processes whose command lines name this directory."""
    pids = {int(path.name) for path in Path("/proc").glob("[0-9]*")}
    return {pid for pid in pids if directory in processes.command_line(pid)}


def test_a_job_array_runs(slurm: SlurmCluster) -> None:
    """Each array task runs on a node and leaves its output in the work directory."""
    job_id = submit(slurm, "echo $SLURM_ARRAY_TASK_ID", "--array=0-9")
    assert_soon(lambda: not slurm.open_jobs(), PATIENCE)

    outputs = sorted(slurm.work.glob(f"slurm-{job_id}_*.out"))

    assert sorted(map(str, range(10))) == [o.read_text().strip() for o in outputs]


def test_this_process_finds_the_cluster(slurm: SlurmCluster) -> None:
    """With the fixture, a plain sinfo lists the nodes."""
    done = subprocess.run(
        ["sinfo", "-h", "-N", "-o", "%N"], capture_output=True, text=True, check=True
    )

    assert slurm.node_names == done.stdout.split()


def test_foreign_variables_do_not_matter(
    slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What users set for squeue changes nothing in the commands of `run`."""
    monkeypatch.setenv("SQUEUE_FORMAT", "nonsense")
    job_id = submit(slurm, "true")
    assert_state(slurm, job_id, "COMPLETED")

    answer = slurm.run("squeue", "-h", "-t", "all", "-j", job_id)

    assert job_id in answer
    assert "nonsense" not in answer


def test_a_failed_command_is_quoted(slurm: SlurmCluster) -> None:
    """The error of `run` has the command and what it said."""
    with pytest.raises(ClusterError, match=r"sbatch -p nope.*nvalid partition"):
        slurm.run("sbatch", "-p", "nope", "--wrap", "true")


def test_extra_lines_can_add_a_hidden_partition(start_cluster: StartCluster) -> None:
    """An ordinary user who does not ask for all partitions does not see its jobs."""
    user = another_user()
    line = "PartitionName=secret Nodes=ALL Hidden=YES State=UP"
    cluster = start_cluster(nodes=1, extra_lines=(line,))
    squeue = ["squeue", "-h", "-o", "%P"]
    submit(cluster, "true", "--hold", "-p", "secret")

    assert subprocess.check_output(squeue, text=True, user=user) == ""
    assert subprocess.check_output([*squeue, "-a"], text=True, user=user) == "secret\n"


def test_two_clusters_do_not_collide(start_cluster: StartCluster) -> None:
    """Each has its own directory, ports and job ids."""
    clusters = [start_cluster(nodes=1), start_cluster(nodes=2)]

    ids = [submit(cluster, "true") for cluster in clusters]

    assert ids[0] == ids[1]  # "1", and "2" in 20.11
    assert clusters[0].directory != clusters[1].directory
    for cluster in clusters:
        assert_state(cluster, ids[0], "COMPLETED")


@pytest.mark.usefixtures("needs_slurm")
def test_clusters_of_several_programs_do_not_collide() -> None:
    """Programs that start clusters at the same time get different ones."""
    programs = [run_program(_HOLD_A_CLUSTER) for _ in range(3)]
    directories = {line_of(program) for program in programs}
    for program in programs:
        program.communicate(timeout=PATIENCE)  # closes its stdin, and it stops

    assert len(directories) == 3
    assert [program.returncode for program in programs] == [0, 0, 0]


@pytest.mark.usefixtures("needs_slurm")
def test_a_killed_owner_leaves_nothing_for_long() -> None:
    """The next start clears away the cluster of a program that was killed."""
    program = run_program(_HOLD_A_CLUSTER)
    daemons = mentioning(line_of(program))
    assert len(daemons) >= 3
    program.kill()
    program.communicate(timeout=PATIENCE)

    with SlurmCluster(ClusterOptions(nodes=1)):
        pass

    assert not any(map(processes.is_alive, daemons))


def test_an_ordinary_user_can_run_it(start_cluster: StartCluster) -> None:
    """Daemons, commands and jobs all belong to the user."""
    user = another_user()
    cluster = start_cluster(nodes=2, user=user)
    job_id = submit(cluster, "id -un", "-o", "user.out")
    assert_state(cluster, job_id, "COMPLETED")

    assert (cluster.work / "user.out").read_text().strip() == user
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in cluster.processes()}
    assert owners == {pwd.getpwnam(user).pw_uid}


def test_stop_leaves_no_process_and_no_file(start_cluster: StartCluster) -> None:
    """What jobs started ends too, even in a session of its own, and stop can repeat."""
    cluster = start_cluster(nodes=1)
    submit(cluster, "setsid sleep 1001 & sleep 1002")
    assert_running(cluster, {"sleep 1001", "sleep 1002"})
    before = cluster.processes() | mentioning(str(cluster.directory))
    # Not the directory itself: another program may have a new one of that name at once.
    output = cluster.work / "slurm-1.out"

    cluster.stop()
    cluster.stop()

    assert not any(map(processes.is_alive, before))
    assert not output.exists()


@pytest.mark.usefixtures("needs_slurm")
def test_a_failed_start_quotes_the_log_and_leaves_nothing() -> None:
    """A setting that slurmctld refuses is in the error."""
    cluster = SlurmCluster(ClusterOptions(extra_lines=("SelectType=select/nonsense",)))

    with pytest.raises(ClusterError, match="select/nonsense") as caught:
        cluster.start()

    assert not cluster.is_started
    started = re.search(r"started on cluster test(\d+)", str(caught.value))
    assert started is not None
    assert not mentioning(f"/tmp/slurm-{started[1]}")


def test_jobs_survive_a_restart_of_the_controller(start_cluster: StartCluster) -> None:
    """A clean stop loses nothing: the running job ends, the held one is still held."""
    cluster = start_cluster(nodes=1)
    running = submit(cluster, "while [ ! -e go ]; do sleep 0.1; done")
    held = submit(cluster, "true", "--hold")
    assert_state(cluster, running, "RUNNING")

    cluster.stop_controller()
    (cluster.work / "go").touch()
    cluster.start_controller()

    assert_state(cluster, running, "COMPLETED")
    assert state(cluster, held) == "PENDING"


def test_saved_jobs_survive_a_killed_controller(start_cluster: StartCluster) -> None:
    """What slurmctld wrote to its state directory is there after kill and restart."""
    cluster = start_cluster(nodes=1, message_timeout=2)
    held = submit(cluster, "true", "--hold")
    assert_soon((cluster.directory / "state/job_state").exists, PATIENCE)

    cluster.kill_controller()
    with pytest.raises(ClusterError, match="connect"):
        cluster.run("squeue")
    cluster.start_controller()

    assert state(cluster, held) == "PENDING"


def test_a_clean_start_of_the_controller_forgets_the_jobs(
    start_cluster: StartCluster,
) -> None:
    """As after the loss of its state directory."""
    cluster = start_cluster(nodes=1)
    submit(cluster, "true", "--hold")

    cluster.stop_controller()
    cluster.start_controller(clean=True)

    assert cluster.open_jobs() == []


def test_a_frozen_controller_lets_commands_wait(start_cluster: StartCluster) -> None:
    """A command times out while slurmctld is frozen, and works after the thaw."""
    cluster = start_cluster(nodes=1, message_timeout=2)

    cluster.freeze_controller()
    with pytest.raises(ClusterError, match="timed out"):
        cluster.run("squeue")
    cluster.thaw_controller()

    assert cluster.open_jobs() == []


def test_a_killed_slurmd_leaves_its_jobs_running(start_cluster: StartCluster) -> None:
    """The job's end is reported when slurmd is there again."""
    cluster = start_cluster(nodes=1)
    job_id = submit(cluster, "while [ ! -e go ]; do sleep 0.1; done")
    assert_state(cluster, job_id, "RUNNING")

    cluster.kill_node("n1")
    (cluster.work / "go").touch()
    cluster.start_node("n1")

    assert_state(cluster, job_id, "COMPLETED")


def test_a_crashed_node_takes_its_jobs_along(start_cluster: StartCluster) -> None:
    """Its job fails, the job on the other node goes on, and the node can return."""
    cluster = start_cluster(nodes=2, slurmd_timeout=4, message_timeout=3)
    lost = submit(cluster, "sleep 1003", "-w", "n1", "--no-requeue")
    kept = submit(cluster, "sleep 1004", "-w", "n2")
    assert_running(cluster, {"sleep 1003", "sleep 1004"})

    cluster.crash_node("n1")

    assert "sleep 1003" not in commands(cluster.processes())
    assert_state(cluster, lost, "NODE_FAIL")
    assert state(cluster, kept) == "RUNNING"
    cluster.start_node("n1")
    assert_soon(lambda: cluster.node_state("n1") == "idle", PATIENCE)


@pytest.mark.parametrize(
    ("preemption", "expected"), [("cancel", "PREEMPTED"), ("requeue", "PENDING")]
)
def test_urgent_jobs_push_others_away(
    start_cluster: StartCluster, preemption: str, expected: str
) -> None:
    """A job in the partition "urgent" starts at once on a full node."""
    cluster = start_cluster(nodes=1, cpus=1, preemption=preemption)
    ordinary = submit(cluster, "sleep 1005")
    assert_state(cluster, ordinary, "RUNNING")

    urgent = submit(cluster, "sleep 0.1", "-p", "urgent")

    assert_state(cluster, urgent, "COMPLETED")
    assert state(cluster, ordinary) == expected


@pytest.mark.parametrize(
    ("enforcement", "expected"), [("cgroup", "OUT_OF_MEMORY"), ("poll", "FAILED")]
)
def test_a_job_that_takes_too_much_memory_is_killed(
    start_cluster: StartCluster, enforcement: str, expected: str
) -> None:
    """With cgroups Slurm says why; with the poll it is a failure like others."""
    reason = cgroup_available() if enforcement == "cgroup" else None
    if reason is not None:
        pytest.skip(reason)
    cluster = start_cluster(nodes=1, memory_enforcement=enforcement)

    greedy = submit(cluster, _GREEDY.format(python=sys.executable), "--mem=100")

    assert_state(cluster, greedy, expected)


def test_accounting_remembers_jobs_and_limits(start_cluster: StartCluster) -> None:
    """Sacct shows a job that ended, and a QOS refuses one too many."""
    reason = accounting_available()
    if reason is not None:
        pytest.skip(reason)
    cluster = start_cluster(nodes=1, accounting=True, accounting_enforce="limits,qos")
    cluster.sacctmgr("add", "qos", "tight", "MaxSubmitJobsPerUser=1")
    cluster.sacctmgr("modify", "user", cluster.user, "set", "qos+=tight")

    first = submit(cluster, "true", "--qos=tight", "--hold")
    with pytest.raises(ClusterError, match="QOSMaxSubmitJobPerUserLimit"):
        submit(cluster, "true", "--qos=tight")
    cluster.run("scontrol", "release", first)

    query = ["sacct", "-n", "-X", "-j", first, "-o", "State%20"]
    assert_soon(lambda: cluster.run(*query).strip() == "COMPLETED", PATIENCE)
