"""What client and node must agree on: the formats of the files that they share.

Calls file (`calls.pkl`, written by the client): blobs one after another, then the
tables that say where they are, then a footer of fixed size.

    magic | blobs ... | identities | uses table | jobs table | calls table | context
    | footer

    jobs table    for each job: number of its first call, how many calls; offset and
                  length of the state that they find, 0 and 0: that in the context
    calls table   for each call: offset and length of its function and its arguments,
                  first entry and number of entries in the uses table
    identities    for each call: its number, in the order in which the calls of the
                  executor were submitted, which it keeps when it is submitted again;
                  and a digest of function and arguments, zeros where there is none.
                  For clients alone
    uses table    offset and length of each large object that a call shares with
                  others; the arguments refer to the n-th one by the persistent id n
    context       pickled dict: cwd, real_cwd (the same without links), script (the
                  `__file__` of `__main__`, None if it has none), prefix, version,
                  cloudpickle (its version), initializer, exported (whether jobs begin
                  with the environment of the client), uses, identities, and state (see
                  state.py): that of the first call

Outcomes file (`finished/0-999/7`, of job 7 or of entry 7 of a queue): one record for
each call that ended, in the order in which they ended. A record whose length or
checksum is wrong is not there yet.

    magic | position in the job | kind | length | CRC-32 | payload

A record of the kind USAGE comes before that of an outcome: what this call has used.
Its numbers are in USAGE_NUMBERS, and the name of the node follows: epoch seconds of the
start; seconds that it took; seconds of CPU of the process and of the children that it
has waited for; seconds from the start of the worker to its end; highest bytes of memory
of a process, 0: not known; flags. Should that change, the kind gets another number.

LINGERS at the end of the file, where no record can end so, says that the process may
live on after its outcomes: it has threads, exit functions and the like. It leaves the
mark `7.over` when these are over. All others leave at once. One whose slurmstepd has
died leaves no mark: for Slurm its job runs on.

Where calls have left no value the worker leaves the mark `7.raised-2` before it
publishes, with their number: a listing of the directory tells how all calls ended.

While the calls run the file is called 7.NAME, where NAME is that of the attempt: a job
that was requeued may live on where Slurm cannot see it, and have others. The worker
gives it the final name when the calls are over. With that name it is complete.

Where the client does not wait for an attempt any more it withdraws it, by a rename to
7.NAME.withdrawn. The worker looks between calls, at most every LOOK_INTERVAL seconds,
whether its file has its name still. If not, it begins no more calls; a job leaves a
last record of the kind NOT_BEGUN then, with the position of the first of these. When
the calls are over the rename of the worker fails: client and worker cannot both have it
their way. A job that is alive all the same gets the name back, and what it has left by
then tells what it did not begin.

Marks (`jobs/0-999/7/started`, `finished/0-999/7.died`, `7.over`): symbolic links, whose
target is their text; XFS has room for 1,000 bytes. They appear with it in a single
operation, which on a parallel file system makes no file. 7.died has exit code and
number of the attempt; then follow, where the job could not begin, words, and where its
files could not be used, the number of the system's error and NOT_READ or NOT_WRITTEN.
"""

from __future__ import annotations

import errno
import os
from struct import Struct
from zlib import crc32

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS_MAGIC = b"SLFCALLS"
CALLS_FOOTER = Struct("<QQQQQQ8s")
JOB_ENTRY = Struct("<QQQQ")
CALL_ENTRY = Struct("<QQQQQQ")
USE_ENTRY = Struct("<QQ")
IDENTITY = Struct("<Q20s")
#: The number of what is no call of the user, such as a worker of a pool.
UNNUMBERED = 2**64 - 1
OUTCOME_MAGIC = b"SLFO"
OUTCOME_HEADER = Struct("<4sQBQI")
USAGE_NUMBERS = Struct("<ddddQB")
#: Bytes at the end of a calls file that are read at once.
TAIL_SIZE = 4096
#: The highest protocol that Python 3.11 and later have.
PROTOCOL = 5
#: At most so many entries lie in a directory.
BLOCK_SIZE = 1000
#: Kinds of outcomes. The payload of a value is its pickle; that of an exception is the
#: pickle of the dict that `exceptions.describe` returns. NOT_BEGUN has none: the calls
#: from this position on did not run. USAGE is none; see above.
VALUE, EXCEPTION, INITIALIZER_FAILED, NOT_BEGUN, USAGE = range(5)
#: A flag of USAGE: the call has had children, maybe several at the same time.
HAD_CHILDREN = 1
#: What the worker could not do that left a mark: read its calls, or write its outcomes.
NOT_READ, NOT_WRITTEN = 1, 2
#: The end of a file with outcomes of a process that may live on; see above.
LINGERS = b"LINGERS\n"
#: Seconds that what calls have left behind has to end, once their outcomes are there.
EXIT_PATIENCE = 10
#: The end of the name of outcomes that the client does not wait for; see above.
WITHDRAWN = ".withdrawn"
#: How the mark goes on that tells of calls without a value; see above.
RAISED = "raised-"
#: Seconds between two looks for it; and after how many the client can be sure that a
#: job that still runs has seen it, or will see it before its next call.
LOOK_INTERVAL, WITHDRAWAL_PAUSE = 0.2, 0.5
#: Bits of the mode of a file that is not unpickled. Those of the library have none.
WRITABLE_BY_OTHERS = 0o022
#: In the place of a pickled function, and no pickle: the job is a worker of a pool.
SERVE_POOL = b"slurm_futures: serve a pool"


def read_outcomes(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield position, kind and payload of each complete record."""
    start = 0
    while start + OUTCOME_HEADER.size <= len(content):
        magic, position, kind, length, checksum = OUTCOME_HEADER.unpack_from(
            content, start
        )
        start += OUTCOME_HEADER.size
        payload = content[start : start + length]
        complete = magic == OUTCOME_MAGIC and len(payload) == length
        if not complete or crc32(payload) != checksum:
            return
        yield position, kind, payload
        start += length


def pack_outcome(position: int, kind: int, payload: bytes, usage: bytes = b"") -> bytes:
    """Return the record of one outcome, and before it that of what its call used."""
    header = (OUTCOME_MAGIC, position, kind, len(payload), crc32(payload))
    parts = [OUTCOME_HEADER.pack(*header), payload]
    if usage:
        header = (OUTCOME_MAGIC, position, USAGE, len(usage), crc32(usage))
        parts[:0] = OUTCOME_HEADER.pack(*header), usage
    return b"".join(parts)


def write_all(descriptor: int, content: bytes, start: int = 0) -> None:
    """Write all of it from an offset on, however little the system takes at a time.

    Raises:
        OSError: it does not fit; nothing of it is left, so that there is some room for
            the words that tell of it.
    """
    rest = memoryview(content)
    try:
        while rest:
            end = start + len(content) - len(rest)
            rest = rest[os.pwrite(descriptor, rest, end) :]
    except OSError as error:
        try:
            os.ftruncate(descriptor, start)
        except OSError:
            pass
        raise error


def block_of(index: int) -> str:
    """Return the directory of an entry, such as "0-999", as the job script does."""
    first = index // BLOCK_SIZE * BLOCK_SIZE
    return f"{first}-{first + BLOCK_SIZE - 1}"


def leave_mark(path: str, text: str) -> None:
    """Create a mark, in the place of one of an earlier attempt if there is any."""
    try:
        os.symlink(text, path)
    except FileExistsError:
        os.unlink(path)
        os.symlink(text, path)
    except OSError:  # a file system without symbolic links
        if os.path.islink(path):
            return  # only the answer was lost; written through, it were another's mark
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(descriptor, text.encode())
        os.close(descriptor)


def read_mark(path: str | os.PathLike[str]) -> str:
    """Return the text of a mark.

    Raises:
        OSError: it is not there.
    """
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno != errno.EINVAL:  # which it says of a file
            raise
        with open(path, encoding="utf-8") as file:
            return file.read()
