"""The two ends of `SlurmExecutor.map`: items to requests, futures to results.

No state of the executor is known here. The iterator of results keeps no reference to
what it has yielded.
"""

from __future__ import annotations

import itertools
import math
import operator
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, SupportsIndex

from slurm_futures.calls.awaited import (
    AwaitedCall,
    AwaitedRequest,
    pickle_or_await,
    request_of,
)
from slurm_futures.calls.call import PickledCall
from slurm_futures.calls.future import ChunkFuture, SlurmFuture
from slurm_futures.calls.outcome import Outcome
from slurm_futures.calls.pickler import dump
from slurm_futures.calls.request import JobRequest
from slurm_futures.calls.shared_objects import CallPickler

Chunk = tuple[tuple[Any, ...], ...]

#: What chunksize="auto" aims at.
_AUTO_JOBS_PER_WORKER, _AUTO_WORKERS = 4, 100


def pickle_function(fn: Callable[..., Any]) -> bytes | Exception:
    """Pickle the function of a map; its calls fail with the error if there is one."""
    try:
        return dump(fn)
    except Exception as error:  # noqa: BLE001  (whatever a reducer may raise)
        return error


def make_request(
    future: SlurmFuture[Any],
    function: bytes | Exception,
    chunk: Chunk,
    pickler: CallPickler,
) -> JobRequest | AwaitedRequest:
    """Pickle the calls of a chunk; those that cannot be pickled fail on the spot."""
    positions: list[int] = []
    calls: list[PickledCall | AwaitedCall] = []
    for position, args in enumerate(chunk):
        try:
            calls.append(_pickle_item(function, args, pickler))
        except Exception as error:  # noqa: BLE001  (whatever a reducer may raise)
            future._settle(position, Outcome(exception=error))
        else:
            positions.append(position)
    return request_of(future, positions, calls)


def _pickle_item(
    function: bytes | Exception, args: tuple[Any, ...], pickler: CallPickler
) -> PickledCall | AwaitedCall:
    if isinstance(function, Exception):
        raise function
    return pickle_or_await(
        lambda: pickler.pickle(function, args, {}),
        lambda: function,
        args,
        {},
        pickler.numbers,
    )


def choose_chunksize(
    items: Iterator[tuple[Any, ...]], buffersize: int | None, workers: int | None
) -> tuple[Iterator[tuple[Any, ...]], int]:
    """Return the items, which are counted for that, and what "auto" means for them."""
    if buffersize is not None:
        return items, 1  # the number of items is not known, and there are few
    listed = list(items)
    jobs = _AUTO_JOBS_PER_WORKER * (workers or _AUTO_WORKERS)
    return iter(listed), max(1, len(listed) // jobs)


def chunked(items: Iterator[tuple[Any, ...]], size: int) -> Iterator[Chunk]:
    """Yield the items in tuples of this size; the last one may be shorter."""
    while chunk := tuple(itertools.islice(items, size)):
        yield chunk


def results(
    futures: deque[SlurmFuture[Any]],
    deadline: float | None,
    submit_next: Callable[[], list[SlurmFuture[Any]]],
    *,
    return_exceptions: bool,
) -> Iterator[Any]:
    """Yield results in order; cancel the rest when closed or when one is late.

    With `return_exceptions` the exception of a call is a result like any other.
    """
    try:
        while futures:
            futures.extend(submit_next())
            yield from _take_result(futures.popleft(), deadline, return_exceptions)
    finally:
        _cancel_all(futures)


def _cancel_all(futures: deque[SlurmFuture[Any]]) -> None:
    """Cancel these futures; Ctrl-C meanwhile does not spare the rest."""
    try:
        while futures:
            futures[0].cancel()
            futures.popleft()
    except BaseException:
        _cancel_all(futures)
        raise


def _take_result(
    future: SlurmFuture[Any], deadline: float | None, return_exceptions: bool
) -> Iterator[Any]:
    """Yield what a future holds, keeping no reference to it."""
    try:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        result: Any = (
            _take_outcomes(future, left) if return_exceptions else future.result(left)
        )
    finally:
        future.cancel()
        chunked = return_exceptions or isinstance(future, ChunkFuture)
        del future
    values = result if chunked else [result]
    del result
    values.reverse()
    while values:
        yield _unwrap(values.pop(), return_exceptions) if chunked else values.pop()


def _take_outcomes(future: SlurmFuture[Any], left: float | None) -> list[Outcome]:
    """Wait for all calls of a future, whatever becomes of them.

    Raises:
        TimeoutError: they are not done after so many seconds.
    """
    try:
        error = future.exception(left)
    except CancelledError as cancelled:
        error = cancelled
    if error is not None:
        return [Outcome(exception=error)] * future._size
    if isinstance(future, ChunkFuture):
        return future.result(0)
    return [Outcome(value=future.result(0))]


def _unwrap(outcome: Outcome, return_exceptions: bool) -> Any:
    if outcome.exception is None:
        return outcome.value
    if return_exceptions:
        return outcome.exception
    raise outcome.exception


def check_map(
    timeout: object, chunksize: object, buffersize: object, return_exceptions: object
) -> None:
    """Check the arguments of a map, with the errors of Python 3.14 where it has them.

    Raises:
        ValueError, TypeError: as there.
    """
    if isinstance(timeout, float) and math.isnan(timeout):
        raise ValueError("timeout must be a number of seconds or None")
    if chunksize != "auto":
        if isinstance(chunksize, bool) or not isinstance(chunksize, SupportsIndex):
            raise TypeError(f'chunksize={chunksize!r} must be an integer or "auto"')
        if operator.index(chunksize) < 1:
            raise ValueError("chunksize must be >= 1.")
    if buffersize is not None:
        if not isinstance(buffersize, int) or isinstance(buffersize, bool):
            raise TypeError("buffersize must be an integer or None")
        if buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
    if not isinstance(return_exceptions, bool):
        raise TypeError(f"return_exceptions={return_exceptions!r} must be a bool")
