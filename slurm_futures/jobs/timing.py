"""All times of the client, in one place. Parts get them handed down as one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from slurm_futures.errors import JobState
from slurm_futures.node.formats import EXIT_PATIENCE, WITHDRAWAL_PAUSE

#: See `Timing.state_graces`.
_STATE_GRACES = {
    JobState.CANCELLED: 3.0,
    JobState.TIMEOUT: 3.0,
    JobState.DEADLINE: 3.0,
    JobState.OUT_OF_MEMORY: 3.0,
    JobState.FAILED: 10.0,
    JobState.PREEMPTED: 20.0,
    JobState.BOOT_FAIL: 20.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds, unless it says otherwise.

    Attributes:
        grace: how long to wait for the files of a job that is over, as Slurm says, and
            for a file system that lets nothing be written.
        pending_timeout: after which a job that is pending fails; None: never.

        gather_pause: for which calls that come in a loop are gathered for one array.
        shortest_rest: between two submissions at first; doubles while there are more.
        longest_rest: between two submissions at most.
        limits_age: for which the limits of the scheduler, or that they are not known,
            hold.
        throttle_retry: until a throttle is set again that could not be set.
        shortest_backoff: after a refusal of sbatch that may pass; doubles.
        longest_backoff: the same at most.
        patience: for which a submission is tried before its calls fail.
        shortest_rewrite: until files that could not be written are written again;
            doubles.
        longest_rewrite: the same at most.
        wanted_interval: after which a pause ends that nobody waits for any more.
        search_time: after an ambiguous sbatch until a job that is not in the queue was
            never made. slurmctld may still work off what it was sent before it hung.

        shortest_look: between two looks at files, right after news.
        longest_look: the same, when nothing happens.
        look_share: of the time since the last news, for the looks between these.
        look_cost_factor: how many times the duration of a look must pass till the next
            one, which bounds the load on a slow file system.
        started_interval: between two listings of the job directories, at least.
        started_factor: the same, as a multiple of the time between two looks.
        put_off: until files that could not be read are read again.
        unlisted_warning: for which a directory cannot be listed before a warning.
        unlisted_reminder: until the next one.
        longest_query_factor: squeue is asked less often while its answers bring no
            change, up to so many times the poll interval.
        longest_query_backoff: between two queries that fail.
        query_warning: between two warnings of that.

        state_graces: to wait for files of a job that is over, and for a requeue, by
            state; others have the full grace. CANCELLED and the like are final, and are
            shown when the processes of the job have ended.
        never_started_grace: to wait for a job that left the queue without a trace of
            having begun.
        gone_grace: until a directory that is not there counts as deleted.
        cause_wait: that Slurm has for saying why a job got a signal that Slurm may have
            sent.
        over_pause: to wait for the mark of a job that lingers until squeue is asked.
        linger_patience: that a job has to end, after its last call, before it is
            cancelled; its worker itself has a bit less.
        withdrawal_pause: after which a job that lives on has seen that its calls are
            withdrawn, or will see it before the next one.

        cancel_pause: for which cancels that come one by one are gathered.
        cancel_patience: for which jobs that should end are watched when the executor
            has ended, and cancels that fail are tried again; before that for ever.
        shortest_cancel_backoff: between two tries, at first.
        longest_cancel_backoff: the same at most.

        feed_pause: for which calls are gathered for one batch of a queue.
        long_feed_pause: the same while all workers have enough to do.
        claims_interval: between two listings of the claims, which tell what runs.
        first_worker_pause: until another worker is tried after some of no use; doubles.
        longest_worker_pause: the same at most.
    """

    grace: float = 60.0
    pending_timeout: float | None = None

    gather_pause: float = 0.01
    shortest_rest: float = 0.05
    longest_rest: float = 1.0
    limits_age: float = 300.0
    throttle_retry: float = 10.0
    shortest_backoff: float = 1.0
    longest_backoff: float = 60.0
    patience: float = 6 * 3600.0
    shortest_rewrite: float = 0.1
    longest_rewrite: float = 1.0
    wanted_interval: float = 0.5
    search_time: float = 20.0

    shortest_look: float = 0.05
    longest_look: float = 1.0
    look_share: float = 0.01
    look_cost_factor: float = 50.0
    started_interval: float = 0.5
    started_factor: float = 5.0
    put_off: float = 1.0
    unlisted_warning: float = 60.0
    unlisted_reminder: float = 600.0
    longest_query_factor: float = 12.0
    longest_query_backoff: float = 120.0
    query_warning: float = 300.0

    state_graces: Mapping[JobState, float] = field(
        default_factory=lambda: MappingProxyType(_STATE_GRACES)
    )
    never_started_grace: float = 15.0
    gone_grace: float = 10.0
    cause_wait: float = 15.0
    over_pause: float = 2.0
    linger_patience: float = EXIT_PATIENCE + 5.0
    withdrawal_pause: float = WITHDRAWAL_PAUSE

    cancel_pause: float = 0.02
    cancel_patience: float = 120.0
    shortest_cancel_backoff: float = 1.0
    longest_cancel_backoff: float = 8.0

    feed_pause: float = 0.004
    long_feed_pause: float = 0.1
    claims_interval: float = 0.5
    first_worker_pause: float = 1.0
    longest_worker_pause: float = 60.0
