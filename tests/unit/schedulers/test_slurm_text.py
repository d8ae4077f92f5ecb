"""What Slurm's commands print, read as values; ids to scancel's form and back."""

import random

import pytest

from slurm_futures.errors import JobState, Refusal
from slurm_futures.schedulers import slurm_text
from slurm_futures.schedulers.base import Ending, JobId, Limits, Row


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "1948|0-99%4|PD|Priority|/run/0001",
            Row(JobState.PENDING, "Priority", (range(100),), "/run/0001"),
        ),
        ("1948|7|R|None|/w", Row(JobState.RUNNING, "None", (range(7, 8),), "/w")),
        (
            "1948|N/A|PD|JobHeldUser|/w",
            Row(JobState.PENDING, "JobHeldUser", None, "/w"),
        ),
        ("1948|N/A|CA|None|/w", Row(JobState.CANCELLED, "None", None, "/w")),
        (
            "1948|0,2-3,5|PD|Resources|/w",
            Row(
                JobState.PENDING,
                "Resources",
                (range(1), range(2, 4), range(5, 6)),
                "/w",
            ),
        ),
        (
            "1948|1-99:7%3|PD|JobArrayTaskLimit|/w",
            Row(JobState.PENDING, "JobArrayTaskLimit", (range(1, 100, 7),), "/w"),
        ),
        (
            "1948|[0-20:2]|PD|BeginTime,JobHeldAdmin|/w",
            Row(JobState.PENDING, "BeginTime,JobHeldAdmin", (range(0, 21, 2),), "/w"),
        ),
        (
            "1948|3|PD|ReqNodeNotAvail, UnavailableNodes:m2|/w",
            Row(
                JobState.PENDING,
                "ReqNodeNotAvail, UnavailableNodes:m2",
                (range(3, 4),),
                "/w",
            ),
        ),
        ("1948|3|XY|None|/w", Row(JobState.UNKNOWN, "None", (range(3, 4),), "/w")),
        ("1948|3|?|None|/w", Row(JobState.UNKNOWN, "None", (range(3, 4),), "/w")),
        ("1948|3|R|None|/a|b", Row(JobState.RUNNING, "None", (range(3, 4),), "/a|b")),
        (
            "1948|3|R|None|/a\u2028\x0cb",
            Row(JobState.RUNNING, "None", (range(3, 4),), "/a\u2028\x0cb"),
        ),
        (
            "1948|3|R|None|/tmp|command=/run/0001/script.sh 1",
            Row(
                JobState.RUNNING,
                "None",
                (range(3, 4),),
                "/tmp",
                "/run/0001/script.sh 1",
            ),
        ),
    ],
    ids=[
        "compressed, with throttle",
        "one task",
        "no array",
        "array that was cancelled as a whole",
        "list",
        "strided",
        "brackets",
        "reason with blank and comma",
        "unknown state",
        "question mark",
        "directory with the separator",
        "directory with what Python takes for the end of a line",
        "directory and command",
    ],
)
def test_queue_rows(line: str, expected: Row) -> None:
    """Each form that squeue has."""
    assert slurm_text.parse_queue(line + "\n", None) == {JobId(1948): (expected,)}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "CLUSTER: alpha",
        "Welcome to Stampede3",
        "1948|0-99|PD|Priority",
        "1948|0-|PD|Priority|/w",
        "1948||PD|Priority|/w",
        "1948|0-5:0|PD|Priority|/w",
        "x1948|0|PD|Priority|/w",
        "1948+0|0|PD|Priority|/w",
    ],
)
def test_queue_lines_that_make_no_sense_are_passed_over(line: str) -> None:
    """A banner must not make all jobs look lost."""
    jobs = slurm_text.parse_queue(f"{line}\n5|N/A|R|None|/w\n", None)

    assert list(jobs) == [JobId(5)]


def test_rows_of_an_array_come_under_its_id() -> None:
    """The rows of one array, in the order of squeue, with the cluster in the id."""
    jobs = slurm_text.parse_queue("4|0|R|None|/w\n4|1-9|PD|None|/w\n", "alpha")

    assert list(jobs) == [JobId(4, None, "alpha")]
    assert [row.state for row in jobs[JobId(4, None, "alpha")]] == [
        JobState.RUNNING,
        JobState.PENDING,
    ]


@pytest.mark.parametrize("state", JobState)
def test_states_in_both_forms(state: JobState) -> None:
    """Squeue prints compact codes, scontrol and sacct long names."""
    assert slurm_text.parse_state(state.value) is state
    assert slurm_text.parse_state(state.name) is state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("CANCELLED by 1000", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("EXPEDITING", JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
    ],
)
def test_states_with_additions(text: str, state: JobState) -> None:
    """Words of a newer Slurm are no error."""
    assert slurm_text.parse_state(text) is state


@pytest.mark.parametrize(
    ("jobs", "texts"),
    [
        ([JobId(123)], ["123"]),
        ([JobId(123, 7)], ["123_[7]"]),
        ([JobId(124, index) for index in (12, 0, 1, 2, 2)], ["124_[0-2,12]"]),
        ([JobId(123), JobId(123, 7)], ["123"]),
        ([JobId(9, 1), JobId(8)], ["8", "9_[1]"]),
        ([], []),
    ],
    ids=["whole", "task", "runs", "whole array wins", "several", "none"],
)
def test_ids_for_scancel(jobs: list[JobId], texts: list[str]) -> None:
    """One request for each array, however many tasks it names."""
    assert list(slurm_text.format_ids(jobs)) == texts


@pytest.mark.parametrize("seed", range(20))
def test_ids_survive_the_round_trip(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is cancelled, scancel is told exactly that, in pieces that fit."""
    numbers = random.Random(seed)  # noqa: S311  (tests need no secrets)
    longest = numbers.choice([10, 100, 60_000])
    monkeypatch.setattr(slurm_text, "_LONGEST_ID", longest)
    size = numbers.randint(1, 400)
    jobs = {JobId(numbers.randint(1, 3), numbers.randint(0, 500)) for _ in range(size)}

    texts = list(slurm_text.format_ids(jobs))

    back = []
    for text in texts:
        number, _, indices = text.partition("_")
        for part in slurm_text.parse_indices(indices) or ():
            back += [JobId(int(number), index) for index in part]
    assert len(back) == len(jobs)
    assert set(back) == jobs
    assert max(len(text) for text in texts) <= longest + 20


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        ("123\n", JobId(123)),
        ("4;rh3\n", JobId(4, None, "rh3")),
        ("Submitted batch job 77\n", JobId(77)),
        ("Submitted batch job 3 on cluster rh3\n", JobId(3, None, "rh3")),
        ("--- Welcome to Stampede3 ---\n--> ok: 12 checks\n991\n", JobId(991)),
        ("991\nThank you, see you in 2027!\n", JobId(991)),
        ("  991  \n\n", JobId(991)),
        ("", None),
        ("Welcome to Stampede3\n", None),
        ("job 12 was queued\n", None),
    ],
)
def test_job_id_of_sbatch(stdout: str, expected: JobId | None) -> None:
    """Banners of a site, with digits in them, before or after the id."""
    assert slurm_text.parse_job_id(stdout) == expected


_VIOLATES = (
    "\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)


@pytest.mark.parametrize(
    ("refusal", "stderr"),
    [
        (Refusal.AMBIGUOUS, "Socket timed out on send/recv operation"),
        (
            Refusal.AMBIGUOUS,
            "Unable to contact slurm controller (connect failure)",
        ),
        (Refusal.AMBIGUOUS, "slurm_receive_msg: send/recv failure"),
        (Refusal.AMBIGUOUS, "Zero Bytes were transmitted or received"),
        (Refusal.AMBIGUOUS, "Unexpected message received"),
        (Refusal.AMBIGUOUS, "Protocol authentication error"),
        (Refusal.AMBIGUOUS, "Connection refused"),
        (Refusal.QUOTA, "Resource temporarily unavailable"),
        (Refusal.QUOTA, "Slurm job queue full"),
        (
            Refusal.QUOTA,
            "Slurm temporarily unable to accept job, sleeping and retrying",
        ),
        (Refusal.TRANSIENT, "Rate limit exceeded, please retry later"),
        (Refusal.TRANSIENT, "I/O error writing script/environment to file"),
        (Refusal.TRANSIENT, "Slurm backup controller in standby mode"),
        (Refusal.QUOTA, f"QOSMaxSubmitJobPerUserLimit{_VIOLATES}"),
        (Refusal.QUOTA, f"AssocMaxSubmitJobLimit{_VIOLATES}"),
        (Refusal.QUOTA, f"AssocGrpSubmitJobsLimit{_VIOLATES}"),
        (Refusal.QUOTA, f"QOSGrpSubmitJobsLimit{_VIOLATES}"),
        (Refusal.QUOTA, f"MaxSubmitJobsPerAccount{_VIOLATES}"),
        (Refusal.ARRAY_TOO_LARGE, "Invalid job array specification"),
        (Refusal.ARRAY_TOO_LARGE, "Job arrays may have at most 10 tasks."),
        (Refusal.ARRAY_TOO_LARGE, "Too many tasks: the limit for an array is 10"),
        (Refusal.NO_ARRAYS, "Job arrays are not allowed on this cluster"),
        (Refusal.NO_ARRAYS, "Batch job submission failed: Unspecified error"),
        (Refusal.NO_ARRAYS, "Requested operation not supported on this system"),
        (Refusal.PERMANENT, f"QOSMaxWallDurationPerJobLimit{_VIOLATES}"),
        (Refusal.PERMANENT, f"QOSMaxCpuPerUserLimit{_VIOLATES}"),
        (Refusal.PERMANENT, "Invalid account or account/partition combination"),
        (Refusal.PERMANENT, "Invalid partition name specified"),
        (Refusal.PERMANENT, "Invalid qos specification"),
        (Refusal.PERMANENT, "Invalid feature specification"),
        (Refusal.PERMANENT, "Requested node configuration is not available"),
        (Refusal.PERMANENT, "Requested time limit is invalid (missing or exceeds)"),
        (Refusal.PERMANENT, "sbatch: unrecognized option '--nice-try'"),
        (
            Refusal.PERMANENT,
            "Pathname of a file, directory or other parameter too long",
        ),
        (Refusal.PERMANENT, ""),
    ],
    ids=lambda value: value.partition("\n")[0] if isinstance(value, str) else None,
)
def test_refusals_of_sbatch(refusal: Refusal, stderr: str) -> None:
    """Each text that is known, with what to do about it."""
    text = f"sbatch: error: {stderr}" if stderr else ""

    assert slurm_text.classify_refusal(text) is refusal


_CONFIG = """Configuration data as of 2026-11-22T15:00:00
MaxArraySize            = {size}
SchedulerParameters     = {parameters}
SLURM_VERSION           = 22.05.8
"""


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (_CONFIG.format(size=1001, parameters="(null)"), Limits(1001)),
        (
            _CONFIG.format(size=1001, parameters="bf_interval=1,max_array_tasks=8"),
            Limits(8),
        ),
        (_CONFIG.format(size=0, parameters=""), Limits(1)),
        (
            _CONFIG.format(size=1001, parameters="") + "MaxJobCount = 40\n",
            Limits(39),
        ),
        ("", Limits()),
        ("MaxArraySize = many\nMaxJobCount = (null)\n", Limits()),
    ],
    ids=[
        "plain",
        "max_array_tasks",
        "arrays are off",
        "MaxJobCount",
        "nothing",
        "nonsense",
    ],
)
def test_limits_of_the_configuration(text: str, limits: Limits) -> None:
    """What is missing has Slurm's own default."""
    assert slurm_text.parse_limits(text) == limits


def test_exit_codes_that_start_a_job_again() -> None:
    """Those after which it waits for a release, too."""
    text = "RequeueExit             = 3,10-12\nRequeueExitHold         = 78\n"

    limits = slurm_text.parse_limits(text)

    expected = (range(3, 4), range(10, 13), range(78, 79))
    assert limits.requeue_exits == expected
    assert slurm_text.parse_limits("RequeueExit = (null)\n").requeue_exits == ()


_RECORD = (
    "JobId=1355 ArrayJobId=1353 ArrayTaskId=2 JobName=fit UserId=me(1000) "
    "JobState={state} Reason={reason} Dependency=(null) Requeue=0 Restarts=1 "
    "ExitCode={code} RunTime=00:01:17 NodeList={node} BatchHost={node}"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            _RECORD.format(state="TIMEOUT", reason="TimeLimit", code="0:15", node="c1"),
            {JobId(1353, 2): Ending(JobState.TIMEOUT, 0, 15, "c1", "TimeLimit")},
        ),
        (
            _RECORD.format(state="FAILED", reason="None", code="3:0", node="(null)"),
            {JobId(1353, 2): Ending(JobState.FAILED, 3, None, None, None)},
        ),
        (
            _RECORD.format(state="FAILED", reason="None", code="0:53", node="c1"),
            {JobId(1353, 2): Ending(JobState.FAILED, 0, None, "c1", None)},
        ),
        (
            _RECORD.format(state="STOPPED", reason="None", code="0:0", node="c1"),
            {JobId(1353, 2): Ending(JobState.STOPPED, 0, None, "c1", None)},
        ),
        (
            "JobId=9 JobName=x JobState=COMPLETED Reason=None NodeList=c[1-2]",
            {JobId(9): Ending(JobState.COMPLETED, None, None, "c[1-2]", None)},
        ),
        (
            "JobId=9 ArrayJobId=9 ArrayTaskId=0,2-3%4 JobState=PENDING",
            {JobId(9, index): Ending(JobState.PENDING) for index in (0, 2, 3)},
        ),
        ("JobId=9 ArrayJobId=9 ArrayTaskId=0-... JobState=PENDING", {}),
        (
            "JobId=9 JobState=RUNNING WorkDir=/home/me/my runs StdErr=/dev/null",
            {JobId(9): Ending(JobState.RUNNING, directory="/home/me/my runs")},
        ),
        ("slurm_load_jobs error: Invalid job id specified", {}),
    ],
    ids=[
        "array task",
        "no node",
        "slurm's own error",
        "stopped",
        "plain job",
        "pending rest",
        "pending rest that is cut short",
        "directory",
        "error",
    ],
)
def test_job_records_of_scontrol(line: str, expected: dict[JobId, Ending]) -> None:
    """One record in each line."""
    assert slurm_text.parse_job_records(line + "\n", None) == expected


def test_job_records_know_their_cluster() -> None:
    """An id is only equal to one of the same cluster."""
    records = slurm_text.parse_job_records("JobId=9 JobState=FAILED\n", "alpha")

    assert list(records) == [JobId(9, None, "alpha")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("6_1|FAILED|1:0|c2", {JobId(6, 1): Ending(JobState.FAILED, 1, None, "c2")}),
        (
            "14|CANCELLED by 1000|0:15|None assigned",
            {JobId(14): Ending(JobState.CANCELLED, 0, 15, None)},
        ),
        (
            "7|OUT_OF_MEMORY|0:125|c1",
            {JobId(7): Ending(JobState.OUT_OF_MEMORY, 0, None, "c1")},
        ),
        ("6_[2-5%2]|PENDING|0:0|None assigned", {}),
        ("6.batch|FAILED|1:0|c2", {}),
        ("6|FAILED", {}),
    ],
    ids=["task", "cancelled", "slurm's own number", "pending", "step", "short"],
)
def test_records_of_sacct(line: str, expected: dict[JobId, Ending]) -> None:
    """Allocations only, and no more than the columns that were asked for."""
    assert slurm_text.parse_accounting(line + "\n", None) == expected
