"""A worker of a pool: takes calls from a queue of files, one after another.

It also defines the names of the files in a pool's directory:

    queue/0-64              a batch of 64 calls (a calls file) that starts with call 0
    queue/closed            there will be no more calls
    claims/0-999/7          a symbolic link whose text is the worker that took call 7
    finished/0-999/7        the outcomes of call 7 (see formats.py)
    finished/0-999/7.NAME   the same while worker NAME still runs the call; the client
                            withdraws it to cancel the call, and where the worker is
                            lost; where it is not there yet, the client makes a
                            directory in its place

NAME is that of the worker's job; from its first restart on, with the number of that.

A call is taken by making the link, which works for exactly one worker, also over NFS,
and tells who it is in the same step. ("Call" here is an entry of the jobs table of a
calls file: with the `chunksize` of a map it holds several.) A worker that cannot begin
with a call takes the link away again, and ends: another one may be on a better node.
One that Slurm has started again puts its new name in the place of that before, and so
has outcomes of its own where the attempt before lives on.
"""

from __future__ import annotations

import os
import time

from . import needs
from .calls_file import CallsFile
from .formats import BLOCK_SIZE, NOT_BEGUN, WITHDRAWN, block_of
from .outcomes import OutcomesFile
from .patience import insist
from .runner import NotBegun, run_call

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CLOSED = "closed"

#: Seconds between two looks at an empty queue: right after a call, and for the longest;
#: with many workers each one looks less often, since any of them can take a call.
SHORTEST_WAIT, LONGEST_WAIT = 0.005, 2.0
WAIT_PER_WORKER = 0.03
#: The last share of its time limit in which a worker takes no more calls.
RESERVE = 0.1


class Batch:
    """The calls of one file in the queue, as one worker goes through them.

    First it takes every `workers`-th one, where no other worker is likely to be, then
    whatever nobody has taken.
    """

    def __init__(self, root: str, name: str, me: int, workers: int) -> None:
        first, count = name.split("-")
        self.first = int(first)
        self.numbers = range(self.first, self.first + int(count))
        self._own = self.numbers[me % workers :: workers]
        self._me = me
        self._claims = f"{root}/claims"
        #: The calls that may still be there, the most promising ones first.
        self.candidates = self._find_candidates()

    def _find_candidates(self) -> Iterator[int]:
        yield from self._own
        begin = self.first // BLOCK_SIZE * BLOCK_SIZE
        for block in range(begin, self.numbers.stop, BLOCK_SIZE):
            name = block_of(block)
            try:
                taken = set(insist(os.listdir, f"{self._claims}/{name}"))
            except FileNotFoundError:  # all of its calls are over
                continue
            first = max(block, self.first)
            last = min(block + BLOCK_SIZE, self.numbers.stop)
            rest = [each for each in range(first, last) if str(each) not in taken]
            # Each worker begins at another place, so that they seldom meet.
            turn = self._me * 7919 % len(rest) if rest else 0
            yield from rest[turn:] + rest[:turn]


class PoolWorker:
    """One job of a pool.

    Args:
        root: the directory of the pool.
        name: of this worker, as it stands in its claims.
        me: its number, from 0.
        workers: how many there are.
        idle_timeout: seconds without work after which the job ends.
        max_calls: after so many calls the job ends; None: no limit.
        time_limit: of the job, seconds; None if it is not known.
    """

    def __init__(
        self,
        root: str,
        name: str,
        me: int,
        workers: int,
        idle_timeout: float,
        max_calls: int | None,
        time_limit: float | None,
    ) -> None:
        self._root = root
        attempt = os.environ.get("SLURM_RESTART_COUNT", "0")
        self._was_requeued = attempt != "0"
        # The attempt before may still run, where Slurm cannot see it, and claim calls.
        self._name = f"{name}.{attempt}" if self._was_requeued else name
        self._me = me
        self._workers = workers
        self._idle_timeout = idle_timeout
        self._left = max_calls
        began = time.monotonic()
        self._end = None if time_limit is None else began + time_limit * (1 - RESERVE)
        self._longest = 0.0  # seconds; of the calls so far
        self._batches: dict[str, Batch] = {}
        self._closed = False
        self._open_name = ""
        self._calls: Any = None
        self._taken: set[int] = set()

    def serve(self) -> int:
        """Run calls until there are no more; return how many it were."""
        try:
            return self._run_left_over() + self._serve()
        finally:
            self._close()

    def _serve(self) -> int:
        count = 0
        idle_since: float | None = None
        wait = SHORTEST_WAIT
        while self._may_go_on():
            taken = self._take()
            if taken is not None:
                count += 1
                if not self._run(*taken):
                    break
                idle_since, wait = None, SHORTEST_WAIT
                continue
            now = time.monotonic()
            idle_since = idle_since or now
            if self._closed or now - idle_since > self._idle_timeout:
                break
            longest = min(WAIT_PER_WORKER * self._workers, LONGEST_WAIT)
            wait = min(wait * 1.5, longest)
            time.sleep(wait * _jitter())
        return count

    def _run_left_over(self) -> int:
        """Run the calls that this job had begun when Slurm requeued it."""
        if not self._was_requeued:
            return 0
        # Nobody else can run them: one look that fails is not enough.
        try:
            left_over = insist(self._find_left_over)
        except FileNotFoundError:  # the client has cleaned up
            return 0
        insist(self._list_strictly)
        count = 0
        for number in left_over:
            for name, batch in self._batches.items():
                if number in batch.numbers and self._adopt(number):
                    self._run(name, number)
                    count += 1
        return count

    def _find_left_over(self) -> list[int]:
        found = []
        me = worker_of(self._name)
        for block in os.listdir(f"{self._root}/claims"):
            claims = f"{self._root}/claims/{block}"
            try:
                taken = os.listdir(claims)
                finished = set(os.listdir(f"{self._root}/finished/{block}"))
                for number in taken:
                    if not number.isdigit() or number in finished:
                        continue
                    owner = os.readlink(f"{claims}/{number}")
                    is_wanted = f"{number}.{owner}{WITHDRAWN}" not in finished
                    if worker_of(owner) == me and is_wanted:
                        found.append(int(number))
            except FileNotFoundError:  # all of its calls are over
                continue
        return sorted(found)

    def _adopt(self, number: int) -> bool:
        """Put our name on a claim of the attempt before; False if there is none."""
        claim = self._claim_of(number)
        own = f"{claim}.{self._name}"
        try:
            try:
                insist(os.symlink, self._name, own)
            except FileExistsError:  # NFS has sent it twice
                pass
            insist(os.rename, own, claim)
        except FileNotFoundError:  # its block is gone, or the rename was sent twice
            if not os.path.lexists(claim):
                return False
        self._taken.add(number)
        return True

    def _may_go_on(self) -> bool:
        if needs.damaged or (self._left is not None and self._left <= 0):
            return False
        now = time.monotonic()
        return self._end is None or now + 1.5 * self._longest < self._end

    def _take(self) -> tuple[str, int] | None:
        """Claim a call; None if there is none."""
        for attempt in range(2):
            for name, batch in self._batches.items():
                for number in batch.candidates:
                    if self._claim(number):
                        return name, number
            if attempt == 0 and not self._list():
                break
        return None

    def _list(self) -> bool:
        """Look for new batches; return whether there are any."""
        try:
            return self._list_strictly()
        except OSError:
            return False

    def _list_strictly(self) -> bool:
        try:
            names = set(os.listdir(f"{self._root}/queue"))
        except FileNotFoundError:  # the client has cleaned up
            names = {CLOSED}
        self._closed = CLOSED in names
        new = [each for each in names - self._batches.keys() if each[:1].isdigit()]
        known = {each: self._batches[each] for each in names & self._batches.keys()}
        for name in new:
            known[name] = Batch(self._root, name, self._me, self._workers)
        self._batches = dict(sorted(known.items(), key=lambda item: item[1].first))
        return bool(new)

    def _claim(self, number: int) -> bool:
        claim = self._claim_of(number)
        try:
            insist(os.symlink, self._name, claim)
        except FileNotFoundError:
            return False
        except FileExistsError:
            if not self._is_own(claim, number):
                return False
        self._taken.add(number)
        return True

    def _claim_of(self, number: int) -> str:
        return f"{self._root}/claims/{block_of(number)}/{number}"

    def _is_own(self, claim: str, number: int) -> bool:
        """Whether we have made a claim that the system says was there already.

        So it is where an NFS client sends a request once more, whose answer was lost.
        """
        if number in self._taken:
            return False
        try:
            return insist(os.readlink, claim) == self._name
        except OSError:
            return False

    def _run(self, batch: str, number: int) -> bool:
        """Run a call; return False if the client cancelled it, and so this job.

        Raises:
            OSError: it cannot begin here, and is given back; or its outcome cannot be
                written.
        """
        began = time.monotonic()
        try:
            outcomes = OutcomesFile(self._root, number, self._name)
        except FileNotFoundError:  # all calls of the block are over
            return True
        except IsADirectoryError:  # cancelled before it began
            return False
        except OSError:
            self._give_back(number)
            raise
        if self._was_requeued:
            outcomes.forget_earlier()
        try:
            self._run_calls(batch, number, outcomes)
        except NotBegun as error:
            outcomes.drop()
            if isinstance(error.__cause__, FileNotFoundError):
                return True  # all calls of the batch are over
            self._give_back(number)
            raise error.__cause__ or error from None
        self._longest = max(self._longest, time.monotonic() - began)
        if self._left is not None:
            self._left -= 1
        published = outcomes.publish(sync=False)
        outcomes.left.clear()
        return published

    def _run_calls(self, batch: str, number: int, outcomes: OutcomesFile) -> None:
        try:
            calls = self._open(batch)
            entries = list(calls.entries(number - self._batches[batch].first))
        except (OSError, EOFError) as error:
            raise NotBegun from error
        outcomes.size = len(entries)
        for position, entry in enumerate(entries):
            if position and not outcomes.are_wanted():
                break
            try:
                if needs.damaged:
                    raise NotBegun
                run_call(calls, entry, position, outcomes)
            except NotBegun:
                if position == 0:
                    raise
                outcomes.append(position, NOT_BEGUN, b"")
                break

    def _give_back(self, number: int) -> None:
        """Let another worker take a call that cannot begin here."""
        self._taken.discard(number)
        try:
            insist(os.unlink, self._claim_of(number))
        except OSError:  # it is gone, or the client finds that its worker has ended
            pass

    def _open(self, batch: str) -> Any:
        """Return the calls file of a batch; the last one stays open."""
        if self._open_name != batch:
            self._close()
            self._calls = CallsFile(f"{self._root}/queue/{batch}")
            self._open_name = batch
        return self._calls

    def _close(self) -> None:
        if self._open_name:
            self._calls.close()
        self._open_name = ""


def worker_of(owner: str) -> str:
    """Return the name of the worker that has made a claim, in whichever attempt."""
    return owner.partition(".")[0]


def _jitter() -> float:
    """Return a factor from 0.5 to 1, so that workers do not look all at once."""
    return 0.5 + (time.monotonic_ns() >> 10) % 1024 / 2048
