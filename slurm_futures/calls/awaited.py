"""Calls with futures among their arguments: sent with the values once these are there.

A future as an argument of its own, or in a list, tuple or dict that is one, stands for
its value. All else is pickled when the call is submitted; the values once they are
there (`jobs/awaiting.py`).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from slurm_futures.calls.call import Blob, PickledCall
from slurm_futures.calls.future import SlurmFuture
from slurm_futures.calls.outcome import Outcome
from slurm_futures.calls.pickler import ByValuePickler, dump
from slurm_futures.calls.request import JobRequest
from slurm_futures.calls.state import capture_state
from slurm_futures.errors import ArgumentFailed


class AwaitedCall:
    """A call that lacks the values of these futures."""

    def __init__(
        self,
        function: bytes,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        futures: Sequence[Future[Any]],
        number: int,
    ) -> None:
        self.futures = futures
        self._number = number
        self._function = function
        self._state = capture_state()
        buffer = io.BytesIO()
        places = {id(each): _Place(number) for number, each in enumerate(futures)}
        filled = {id(each): _fill(each, places) for each in (*args, *kwargs.values())}
        given = tuple(filled[id(each)] for each in args)
        named = {name: filled[id(each)] for name, each in kwargs.items()}
        _PlacesPickler(buffer).dump((given, named))
        self._arguments = buffer.getvalue()

    def complete(self) -> PickledCall:
        """Return the call with the values, once they are there.

        Raises:
            ArgumentFailed: a future has none.
            Exception: whatever the reducers of a value raise.
        """
        blobs = tuple(Blob(dump(_value_of(each))) for each in self.futures)
        return PickledCall(
            self._function, self._arguments, blobs, self._state, self._number
        )


@dataclass(frozen=True, slots=True)
class _Place:
    """Stands for a future."""

    number: int


def _fill(argument: Any, places: dict[int, _Place]) -> Any:
    """Put a place where there is a future, as `_futures_in` finds them."""
    if not any(_futures_in([argument], {})):
        return argument
    if type(argument) is dict:
        return {name: places.get(id(each), each) for name, each in argument.items()}
    if type(argument) in {list, tuple}:
        return type(argument)(places.get(id(each), each) for each in argument)
    return places.get(id(argument), argument)


class _PlacesPickler(ByValuePickler):
    """Writes places as what the values are taken for."""

    def persistent_id(self, obj: object) -> int | None:
        """Return the number of a place."""
        return obj.number if type(obj) is _Place else None


def _value_of(future: Future[Any]) -> Any:
    try:
        return future.result(0)
    except BaseException as error:  # whatever its call has raised
        raise ArgumentFailed(
            "The call was not sent, since a future that is its argument has no value: "
            f"{future!r}.\nThe cause is above; submit both again."
        ) from error


def pickle_or_await(
    pickle: Callable[[], PickledCall],
    function: Callable[[], bytes],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    numbers: Iterator[int],
) -> PickledCall | AwaitedCall:
    """Pickle a call, or what can be pickled of it already.

    Args:
        pickle: pickles it as a whole. Futures cannot be pickled, so they are looked for
            only where that fails.
        function: pickles its function.
        args: of the call.
        kwargs: of the call.
        numbers: yields its number, if it must wait.

    Raises:
        Exception: whatever the reducers of function and arguments raise.
    """
    try:
        return pickle()
    except Exception:
        futures = list({id(each): each for each in _futures_in(args, kwargs)}.values())
        if not futures:
            raise
    return AwaitedCall(function(), args, kwargs, futures, next(numbers))


def _futures_in(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[Future[Any]]:
    for each in (*args, *kwargs.values()):
        items = each.values() if type(each) is dict else each
        for inner in items if type(each) in {list, tuple, dict} else [each]:
            if isinstance(inner, Future):
                yield inner


@dataclass(frozen=True, slots=True, eq=False)
class AwaitedRequest:
    """A request of which some calls lack the values of futures."""

    future: SlurmFuture[Any]
    positions: range | list[int]
    calls: Sequence[PickledCall | AwaitedCall]

    def missing(self) -> list[Future[Any]]:
        """Return the futures that are not done."""
        awaited = [each for each in self.calls if isinstance(each, AwaitedCall)]
        futures = {id(future): future for each in awaited for future in each.futures}
        return [each for each in futures.values() if not each.done()]

    def complete(self) -> JobRequest:
        """Return the request; calls that cannot be sent fail on the spot."""
        positions, calls = [], []
        for position, call in zip(self.positions, self.calls, strict=True):
            try:
                calls.append(call.complete() if isinstance(call, AwaitedCall) else call)
            except Exception as error:  # noqa: BLE001  (whatever a reducer may raise)
                with contextlib.suppress(BaseException):  # of a callback
                    self.future._settle(position, Outcome(exception=error))
            else:
                positions.append(position)
        return JobRequest(self.future, positions, calls)


def request_of(
    future: SlurmFuture[Any],
    positions: range | list[int],
    calls: Sequence[PickledCall | AwaitedCall],
) -> JobRequest | AwaitedRequest:
    """Return the request for these calls, whether or not they lack something."""
    ready = [each for each in calls if isinstance(each, PickledCall)]
    if len(ready) == len(calls):
        return JobRequest(future, positions, ready)
    return AwaitedRequest(future, positions, calls)
