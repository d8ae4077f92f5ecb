"""The rules that say what becomes of a job: `judge`, and what it is told."""

import pytest

from slurm_futures.errors import JobState
from slurm_futures.jobs.job import Job
from slurm_futures.jobs.judge import Verdict, judge
from slurm_futures.jobs.timing import Timing
from slurm_futures.runs.submission import Death
from tests.unit.fakes import make_job

GRACE = 60.0
TIMING = Timing(grace=GRACE)
DIED = Death(3)
KILLED = Death(137)
ALIVE = [state for state in JobState if not state.ended]
ENDED = [state for state in JobState if state.ended]


def job_of(
    state: JobState, at: float | None, *, started: bool = True, absences: int = 0
) -> Job:
    """Return a track that is over since `at`, or alive."""
    job = make_job()
    job.state, job.over_since = state, at
    job.started, job.absences = started, absences
    return job


@pytest.mark.parametrize("state", JobState)
def test_published_outcomes_settle_the_job_whatever_squeue_says(
    state: JobState,
) -> None:
    """The file always wins."""
    job = job_of(state, at=0.0)
    job.published_at = 950.0

    assert judge(job, 1000.0, 1000.0, TIMING) is Verdict.SETTLE


def test_published_outcomes_that_stay_unreadable_fail_the_job() -> None:
    """They were cut short or removed: no future waits for ever."""
    job = make_job()
    job.published_at = 100.0

    assert judge(job, 100.0 + GRACE - 0.1, 0.0, TIMING) is Verdict.SETTLE
    assert judge(job, 100.0 + GRACE + 0.1, 0.0, TIMING) is Verdict.FAIL


@pytest.mark.parametrize("state", ALIVE)
def test_job_that_is_alive_is_waited_for(state: JobState) -> None:
    """However long it takes; an unknown word counts as alive."""
    job = make_job()

    job.see(state, at=1.0)

    assert judge(job, 1e9, 1e9, TIMING) is Verdict.WAIT


@pytest.mark.parametrize(
    ("state", "patience"),
    [
        (JobState.COMPLETED, 60),
        (JobState.NODE_FAIL, 60),
        (JobState.PREEMPTED, 20),
        (JobState.BOOT_FAIL, 20),
        (JobState.FAILED, 10),
        (JobState.CANCELLED, 3),
        (JobState.TIMEOUT, 3),
        (JobState.DEADLINE, 3),
        (JobState.OUT_OF_MEMORY, 3),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_ended_job_has_a_grace_of_its_state(state: JobState, patience: float) -> None:
    """Files may be late, and it may be requeued; some states leave little doubt."""
    job = make_job()
    job.see(state, at=100.0)

    before = judge(job, 1e9, 100.0 + patience - 0.1, TIMING)
    after = judge(job, 1e9, 100.0 + patience, TIMING)

    assert (before, after) == (Verdict.WAIT, Verdict.FAIL)


@pytest.mark.parametrize("state", ENDED)
def test_grace_is_never_longer_than_the_user_said(state: JobState) -> None:
    """SlurmExecutor(grace=1) holds for all states."""
    assert (
        judge(job_of(state, at=0.0), 1.0, 1.0, timing=Timing(grace=1.0)) is Verdict.FAIL
    )


@pytest.mark.parametrize(
    ("started", "patience"), [(True, 60), (False, 15)], ids=["began", "never began"]
)
def test_vanished_job_has_a_grace(started: bool, patience: float) -> None:
    """A job without a trace of having begun leaves no files to wait for."""
    job = job_of(JobState.PENDING, at=0.0, started=started, absences=2)

    before = judge(job, 1e9, patience - 0.1, TIMING)
    after = judge(job, 1e9, patience, TIMING)

    assert (before, after) == (Verdict.WAIT, Verdict.FAIL)


def test_clock_stands_still_while_squeue_fails() -> None:
    """Time passes from one good snapshot to another, not in between."""
    job = job_of(JobState.COMPLETED, at=100.0)

    assert judge(job, 1e9, snapshot_at=100.0, timing=TIMING) is Verdict.WAIT


def test_job_that_died_fails_at_once() -> None:
    """Its own mark proves that there is nothing to wait for."""
    job = job_of(JobState.RUNNING, at=None)
    job.death = DIED

    assert judge(job, 0.0, -float("inf"), TIMING) is Verdict.FAIL


def test_killed_job_waits_for_slurm_to_say_why() -> None:
    """SIGKILL may come from the memory limit, of which Slurm learns a little later."""
    job = job_of(JobState.RUNNING, at=None)
    job.death, job.death_at = KILLED, 100.0

    assert judge(job, 114.9, 0.0, TIMING) is Verdict.WAIT
    assert judge(job, 115.0, 0.0, TIMING) is Verdict.FAIL


def test_job_that_is_pending_again_has_not_died() -> None:
    """SIGTERM was for a requeue."""
    job = job_of(JobState.RUNNING, at=None)
    job.death, job.death_at = Death(143), 100.0

    job.see(JobState.PENDING, 99.0)
    assert job.death is not None
    job.see(JobState.PENDING, 101.0)

    assert judge(job, 1e9, 101.0, TIMING) is Verdict.WAIT
    assert job.old_death == Death(143)


def test_killed_job_fails_as_soon_as_slurm_has_spoken() -> None:
    """Nothing more will be known."""
    job = job_of(JobState.OUT_OF_MEMORY, at=100.0)
    job.death, job.death_at = KILLED, 100.0

    assert judge(job, 100.0, 100.0, TIMING) is Verdict.FAIL


def test_absent_job_is_not_lost_before_the_next_snapshot() -> None:
    """A snapshot that began before the submission says nothing about the job."""
    job = make_job(submitted_at=100.0)

    news = job.miss(at=99.9)

    assert not news
    assert job.absences == 0
    assert judge(job, 1e9, 1e9, TIMING) is Verdict.WAIT


def test_one_absence_is_not_enough() -> None:
    """An answer of squeue may be incomplete."""
    job = make_job()

    job.miss(at=1.0)

    assert judge(job, 1e9, 1e9, TIMING) is Verdict.WAIT


def test_second_absence_starts_the_clock() -> None:
    """From then on the grace runs."""
    job = make_job()

    job.miss(at=1.0)
    job.miss(at=6.0)

    assert job.over_since == 6.0


def test_absences_must_follow_one_another() -> None:
    """A job that is listed in between is there."""
    job = make_job()

    job.miss(at=1.0)
    job.see(JobState.RUNNING, at=2.0)
    job.miss(at=3.0)

    assert job.over_since is None


def test_end_counts_from_its_first_snapshot() -> None:
    """Later ones that say the same do not prolong the grace."""
    job = make_job()

    job.see(JobState.FAILED, at=1.0)
    job.see(JobState.FAILED, at=8.0)
    job.miss(at=9.0)

    assert job.over_since == 1.0


def test_requeued_job_starts_anew() -> None:
    """Slurm takes back even final states."""
    job = make_job()
    job.see(JobState.NODE_FAIL, at=1.0)

    job.see(JobState.PENDING, at=2.0)

    assert job.over_since is None
    assert judge(job, 1e9, 1e9, TIMING) is Verdict.WAIT


def test_same_state_twice_is_no_news() -> None:
    """While nothing changes squeue is asked less often."""
    job = make_job()

    assert [job.see(JobState.RUNNING, at) for at in (1.0, 2.0)] == [True, False]


def test_job_that_is_listed_again_is_news() -> None:
    """Even in its old state."""
    job = make_job()
    job.miss(at=1.0)

    assert job.see(JobState.PENDING, at=2.0)


def test_start_that_files_show_makes_a_pending_job_running() -> None:
    """The job directory is seen long before the next squeue."""
    job = make_job()

    job.note_start()

    assert (job.started, job.state) == (True, JobState.RUNNING)


def test_start_that_files_show_late_does_not_undo_an_end() -> None:
    """What squeue said is newer."""
    job = make_job()
    job.see(JobState.COMPLETED, at=1.0)

    job.note_start()

    assert job.state is JobState.COMPLETED


def test_requeued_job_counts_as_started() -> None:
    """It has been on a node: partial outcomes may be there."""
    job = make_job()
    job.see(JobState.RUNNING, at=1.0)

    job.see(JobState.PENDING, at=2.0)

    assert job.started


def test_plainly_pending_is_a_job_of_which_nothing_else_is_known() -> None:
    """Such jobs are passed over without a look at each."""
    missed, marked = make_job(), make_job()
    missed.miss(at=1.0)
    marked.death = DIED

    assert make_job().plainly_pending
    assert not missed.plainly_pending
    assert not marked.plainly_pending
