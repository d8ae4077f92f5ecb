"""The lease of a run: which program may submit, cancel and delete in it.

    <run>/owner/7       who took the run as the seventh; the highest number counts
    <run>/owner/7.41    the 41st beat of that one

Both are symbolic links, which appear in one step with their text. A run is taken by
making the link of the next number, which one program alone can do, and it is given
back by another such link that says `free`. Numbers only grow, and only links of lower
ones are removed. So whoever was stopped in the midst of this, for however long, makes
a link that is there already, or that is not the highest: it sees that it is late, and
has done no harm. Who is killed has the link or has it not.

Whether an owner lives, its pid says where a pid means the same process: on the same
host, since the same boot, in the same namespaces. Elsewhere its beat does: a link that
gets a new name now and then. Whoever looks for long enough and sees the same name all
the time takes the owner for dead. No clocks are compared, and a look counts for no
more than the pause before it: those who look may be stopped, too, or wait for a file
server. An error is no sign of death.

All is found by listing the directory: NFS asks its server when one is opened.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import NoReturn

from slurm_futures.errors import RunInUse, RunNotFound, SlurmFuturesError
from slurm_futures.node.patience import Patience
from slurm_futures.runs.owner import (
    FREE,
    PLACE,
    LastLease,
    Owner,
    find_last,
    format_facts,
    held,
    list_links,
)
from slurm_futures.runs.program import Program

logger = logging.getLogger("slurm_futures")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """How leases are kept.

    Attributes:
        beat: seconds between two beats.
        look: seconds between two looks at the beat of another host.
        looks: so many without a new beat, and the owner counts as dead. Together they
            take several beats, and longer than NFS keeps what it knows of a directory.
        grace: seconds to wait for a file system that fails.
    """

    beat: float = 20.0
    look: float = 2.0
    looks: int = 60
    grace: float = 10.0


class Lease:
    """The right to submit, cancel and delete in a run, as long as it is not lost.

    `take` makes one. A forked child has none: there it is lost, and nothing happens.

    Args:
        run: the directory of the run.
        times: how it is kept.
        here: the program that owns the run.

    Attributes:
        lost: why this program does not own the run any more, once that is noticed.
    """

    def __init__(self, run: Path, times: LeaseTimes, here: Program) -> None:
        self.lost: SlurmFuturesError | None = None
        self._run = run
        self._place = run / PLACE
        self._times = times
        self._here = here
        self._token = secrets.token_hex(8)
        self._text = format_facts(here, self._token)
        self._number = 0
        self._beats = 0
        self._released = False

    @classmethod
    def take(
        cls, run: Path, times: LeaseTimes | None = None, here: Program | None = None
    ) -> Lease:
        """Own a run from now on.

        Where an earlier owner may still live on another host, this takes two minutes.

        Raises:
            RunInUse: another executor owns it.
            OSError: nobody can tell now, or the run cannot be written to.
        """
        lease = cls(run, times or LeaseTimes(), here or Program.this())
        patience = Patience(lease._times.grace)
        held[lease._token] = lease
        try:
            lease._take(patience)
            lease.beat()
        except BaseException:
            lease._give_back(patience)
            raise
        return lease

    def check(self) -> None:
        """See that this program owns the run: before each action that only owners do.

        It takes two quick operations. A program that was stopped, or its host, may
        have been taken for dead.

        Raises:
            RunInUse: another one has taken it over.
            RunNotFound: somebody has deleted it.
            OSError: nobody can tell now; the action has to wait.
        """
        if self.lost is None:
            self.lost = self._find_loss()
        if self.lost is not None:
            raise self.lost.copy()

    def beat(self) -> float | None:
        """Show programs on other hosts that this one lives; called by one thread.

        Returns:
            The seconds after which it has to be called again; None: never.
        """
        if self._released:
            return None
        try:
            self.check()
            self._move_beat()
        except SlurmFuturesError:
            return None
        except OSError as error:
            logger.debug("%s: no beat of its owner: %s", self._run, error)
            return self._times.look
        self._beats += 1
        return self._times.beat

    def _move_beat(self) -> None:
        new = self._link(self._number, self._beats + 1)
        if self._beats:
            with contextlib.suppress(FileNotFoundError):  # an earlier try has worked
                self._link(self._number, self._beats).rename(new)  # needs no space
                return
        with contextlib.suppress(FileExistsError):
            new.symlink_to("beat")

    def release(self) -> None:
        """Let another one own the run; more than once does no harm."""
        self._give_back(Patience(self._times.grace))

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle or copy a Lease: one executor has it")

    # Taking it.

    def _take(self, patience: Patience) -> None:
        with contextlib.suppress(FileExistsError):
            patience.insist(self._place.mkdir, 0o700)
        while True:
            self._number = 1 + self._await_free(patience)
            self._leave(self._number, self._text, patience)
            if self._is_ours(patience.insist(find_last, self._place)):
                self._remove_below(self._number)
                return

    def _await_free(self, patience: Patience) -> int:
        """Return the highest number, once nobody owns the run.

        Raises:
            RunInUse: somebody does.
        """
        first, silent = LastLease(), 0
        while True:
            last = patience.insist(find_last, self._place)
            if not last.is_same_lease(first):
                first, silent = last, 0
            alive = last.owner_lives(self._here)
            if alive is False:
                return last.number
            if alive or last.beat != first.beat:
                raise self._in_use(last)
            if silent == self._times.looks:
                logger.warning("%s: no sign of life; this program goes on", self._run)
                return last.number
            if silent == 0:
                self._announce_wait(last)
            silent += 1
            sleep(self._times.look)

    def _announce_wait(self, last: LastLease) -> None:
        logger.warning(
            "%s: %s owned it last, and may have ended without giving it back; this "
            "program waits up to %.0f s for a sign of life, and goes on if there is "
            "none",
            self._run,
            last.describe_owner(),
            self._times.look * self._times.looks,
        )

    def _in_use(self, last: LastLease) -> RunInUse:
        owner = last.owner
        if owner == Owner(self._here.host, self._here.pid):
            why = "another SlurmExecutor of this program owns it"
            advice = "Use that one, or end it first with shutdown()"
        else:
            why = f"{last.describe_owner()} owns it"
            advice = "Wait until that has ended, or end it"
        return RunInUse(
            f"The run {self._run} is in use: {why}. {advice}; or choose another name "
            'for this run: SlurmExecutor(run="...").',
            host=owner.host,
            pid=owner.pid,
        )

    def _link(self, number: int, beat: int = 0) -> Path:
        return self._place / (f"{number}.{beat}" if beat else f"{number}")

    def _leave(self, number: int, text: str, patience: Patience) -> None:
        # On NFS it may be there though an error comes back: a look tells whose it is.
        with contextlib.suppress(FileExistsError):
            patience.insist(self._link(number).symlink_to, text)

    def _remove_below(self, number: int) -> None:
        with contextlib.suppress(OSError):
            for each, beat in list_links(self._place):
                if each < number:
                    self._link(each, beat).unlink(missing_ok=True)

    # Losing it.

    def _is_ours(self, last: LastLease) -> bool:
        return (last.number, last.text) == (self._number, self._text)

    def _find_loss(self) -> SlurmFuturesError | None:
        """Say why this program does not own the run; None: it does."""
        if self._here.pid != os.getpid():
            return RunInUse(
                f"The run {self._run} belongs to process {self._here.pid}, of which "
                "this one is a fork. Use it there, or choose another name for a run of "
                'this process: SlurmExecutor(run="...").',
                host=self._here.host,
                pid=self._here.pid,
            )
        try:
            last = find_last(self._place)
        except FileNotFoundError:
            return RunNotFound(
                f"The run {self._run} was deleted while this program owned it. "
                "Run the program again: it computes all of it anew."
            )
        if self._is_ours(last):
            return None
        error = RunInUse(
            f"The run {self._run} is not owned by this program any more: "
            f"{last.describe_owner()} has taken it over, since this one gave no sign "
            f"of life for {self._times.look * self._times.looks:.0f} s, as when it or "
            "its host is stopped. What is in the queue goes on, and the other program "
            "has the results. Run this program again when that has ended.",
            host=last.owner.host,
            pid=last.owner.pid,
        )
        if not self._released:
            logger.warning("%s", error)
        return error

    def _give_back(self, patience: Patience) -> None:
        if self._here.pid != os.getpid():
            return
        self._released = True
        try:
            if self._is_ours(patience.insist(find_last, self._place)):
                self._leave(self._number + 1, FREE, patience)
                self._remove_below(self._number + 1)
        except OSError as error:  # then it is free when this program has ended
            logger.info("%s: cannot be given back: %s", self._run, error)
        held.pop(self._token, None)
