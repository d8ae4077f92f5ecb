"""Large objects that several calls share: stored once for all calls of a submission.

An array that each call of a map gets, or each call of a loop of `submit`, would
otherwise be written as often as there are calls, and so would one that is a global
variable of their function. Calls refer to it by a persistent id instead (pickle's own
means), and the calls file holds it once. Each call still gets an object of its own:
what one call does to it no other call sees.

Whether two calls share an object is decided by its content: a program may fill the
same array anew for each call. While only lists, tuples and the like are read, no line
of the program runs in between: within such a map an object stays as it is, and is
pickled once. So is what `itertools.repeat` yields, whatever is read beside it.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import itertools
import operator
import pickle
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from slurm_futures.calls.call import PLAIN, Blob, PickledCall, dump_arguments
from slurm_futures.calls.pickler import ByValuePickler, TooLarge, dump
from slurm_futures.calls.state import CallerState, capture_state
from slurm_futures.node.formats import UNNUMBERED

#: Bytes; what is smaller travels with its call.
_LARGE = 1 << 20
#: Types of which there may be millions in an object, never large.
_SMALL = frozenset({int, float, complex, bool, type(None)})

_TEXTS = (str, bytes, bytearray)

#: Iterables that run no code of the program when an item is taken from them.
_STILL = frozenset(
    {list, tuple, range, str, bytes, dict, set, frozenset}
    | {itertools.repeat, itertools.count}
)

#: Equal blobs that wait to be written are one object: a loop of submit calls may pass
#: the same large array a thousand times.
_waiting: weakref.WeakValueDictionary[bytes, Blob] = weakref.WeakValueDictionary()
#: What an object was when it was last pickled, by its id: a guess, since it may have
#: changed or be another one by now, that spares the hash and the memory if it is right.
_latest: weakref.WeakValueDictionary[int, Blob] = weakref.WeakValueDictionary()
#: A blob of a function that was large when it was last pickled: a guess as well.
_of_functions: weakref.WeakValueDictionary[int, Blob] = weakref.WeakValueDictionary()

#: Of calls that nobody counts.
_NO_NUMBERS = itertools.repeat(UNNUMBERED)

#: Stands for a large function, which is sent as if it were an argument.
_CALL = dump(operator.call)


def pickle_call(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    numbers: Iterator[int] = _NO_NUMBERS,
) -> PickledCall:
    """Pickle a call of `submit`.

    Raises:
        Exception: whatever the reducers of the function or the arguments raise.
    """
    pickler = CallPickler(numbers=numbers)
    if id(fn) not in _of_functions:
        with contextlib.suppress(TooLarge):  # a global variable is large, say
            return pickler.pickle(dump(fn, _LARGE), args, kwargs)
    call = pickler.pickle_with_function(fn, args, kwargs)
    if call.shared:
        _of_functions[id(fn)] = call.shared[0]
    return call


class CallPickler:
    """Pickles the calls of one `map`, or a single one.

    It keeps references to large arguments, and is dropped when `map` returns.

    Args:
        iterables: of the map; what stays as it is while they are read is pickled once.
        state: of the caller, as it was when the map began; None: as it is now.
        numbers: yields that of the next call; from any thread.
    """

    def __init__(
        self,
        iterables: Sequence[Iterable[object]] = (),
        state: CallerState | None = None,
        numbers: Iterator[int] = _NO_NUMBERS,
    ) -> None:
        self.numbers = numbers
        self.state = state or capture_state()
        self._still = bool(iterables) and all(map(_is_still, iterables))
        self._repeated = {
            id(repeated)  # found without taking one of them
            for each in iterables
            if isinstance(each, itertools.repeat)
            for repeated in gc.get_referents(each)
        }
        self._blobs: dict[int, tuple[object, Blob]] = {}
        self._sharing = False

    def pickle(
        self, function: bytes, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> PickledCall:
        """Pickle the arguments of a call.

        Raises:
            Exception: whatever the reducers of the arguments raise.
        """
        if not self._sharing and not any(map(_is_large_buffer, args)):
            with contextlib.suppress(TooLarge):
                arguments = dump_arguments(args, kwargs, _LARGE)
                return PickledCall(
                    function, arguments, (), self.state, next(self.numbers)
                )
        self._sharing = True  # the next calls are probably as large
        return self._share(function, args, kwargs, _single(args, kwargs))

    def pickle_with_function(
        self, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> PickledCall:
        """Pickle a call whose function is large.

        Raises:
            Exception: whatever the reducers of the function or the arguments raise.
        """
        single = _single(args, kwargs)
        return self._share(_CALL, (fn, *args), kwargs, [fn], single and [fn, *single])

    def _share(
        self,
        function: bytes,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *wholes: Sequence[object],
    ) -> PickledCall:
        """Pickle arguments without large buffers, or else without objects as a whole.

        The first of these groups of objects that is enough is taken out, or the last.
        """
        possible = [whole for whole in wholes if whole]
        known = [
            whole for whole in possible if all(id(each) in _latest for each in whole)
        ]
        for whole in (*known, (), *possible):
            call = self._pickle_without(whole, function, args, kwargs)
            if len(call.arguments) < _LARGE:
                break
        return call

    def _pickle_without(
        self,
        whole: Sequence[object],
        function: bytes,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> PickledCall:
        buffer = io.BytesIO()
        pickler = _SharingPickler(buffer, self, whole)
        pickler.dump((tuple(args), dict(kwargs)))
        shared = tuple(pickler.shared)
        return PickledCall(
            function, buffer.getvalue(), shared, self.state, next(self.numbers)
        )

    def find_blob(self, obj: object) -> Blob:
        """Return the pickle of a large object, the same one for the same content."""
        key = id(obj)
        if key in self._blobs:
            return self._blobs[key][1]
        blob = _blob_of(obj)
        if self._still or key in self._repeated:
            self._blobs[key] = obj, blob
        return blob


def _is_still(iterable: object) -> bool:
    kind = type(iterable)
    return kind in _STILL or (kind.__module__, kind.__name__) == ("numpy", "ndarray")


def _single(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[object]:
    """Return the only object beside numbers and the like: it can be taken out whole.

    Several may be parts of each other.
    """
    rich = [each for each in (*args, *kwargs.values()) if type(each) not in PLAIN]
    return rich if len(rich) == 1 else []


def _blob_of(obj: object) -> Blob:
    latest = _latest.get(id(obj))
    file = _Comparison(b"" if latest is None else latest.content)
    ByValuePickler(file).dump(obj)
    if latest is not None and file.is_same():
        return latest
    content = file.content()
    blob = _waiting.setdefault(hashlib.blake2b(content).digest(), Blob(content))
    _latest[id(obj)] = blob
    return blob


class _Comparison:
    """A file that keeps nothing of what is written while it is as expected."""

    def __init__(self, expected: bytes) -> None:
        self._expected = expected
        self._same = 0
        self._rest = io.BytesIO()

    def write(self, data: bytes | pickle.PickleBuffer) -> None:
        """Append; part of the interface of files."""
        if not self._rest.tell():
            if self._expected.startswith(data, self._same):
                self._same += memoryview(data).nbytes
                return
            self._rest.write(memoryview(self._expected)[: self._same])
        self._rest.write(data)

    def is_same(self) -> bool:
        """Whether all of it is as expected."""
        return not self._rest.tell() and self._same == len(self._expected)

    def content(self) -> bytes:
        """Return what was written."""
        return self._rest.getvalue() or self._expected[: self._same]


class _SharingPickler(ByValuePickler):
    """Takes large objects out of a pickle."""

    def __init__(
        self, file: io.BytesIO, calls: CallPickler, whole: Sequence[object]
    ) -> None:
        super().__init__(file)
        self._calls = calls
        self._whole = whole
        # With the object, so that no other one can take its place in memory, and so id.
        self._places: dict[int, tuple[object, int]] = {}
        #: The blobs that this pickle refers to, by their place.
        self.shared: list[Blob] = []

    def persistent_id(self, obj: object) -> int | None:
        """Return the place of a large object among the shared ones."""
        if type(obj) in _SMALL or not self._is_wanted(obj):
            return None
        key = id(obj)
        if key not in self._places:
            self._places[key] = obj, len(self.shared)
            self.shared.append(self._calls.find_blob(obj))
        return self._places[key][1]

    def _is_wanted(self, obj: object) -> bool:
        if self._whole:
            return any(obj is each for each in self._whole)
        return _is_large_buffer(obj)


def _is_large_buffer(obj: object) -> bool:
    """Whether an object is large and refers to no other one.

    Taken out of its pickle, an object loses what it has in common with the rest.
    """
    if isinstance(obj, _TEXTS):
        return type(obj) in _TEXTS and len(obj) >= _LARGE
    try:
        size = getattr(obj, "nbytes", 0)  # an array of NumPy or the like
        large = isinstance(size, int) and size >= _LARGE
        return large and not isinstance(obj, type) and _holds_numbers_alone(obj)
    except Exception:  # noqa: BLE001  (whatever a property or a proxy may raise)
        return False


def _holds_numbers_alone(array: object) -> bool:
    """Whether nothing in an array is an object of Python.

    Other classes than NumPy's may pickle their attributes as well: pandas' an index.
    """
    if getattr(getattr(array, "dtype", None), "hasobject", True):
        return False
    numpys = type(array).__module__.partition(".")[0] == "numpy"
    return numpys or not hasattr(array, "__dict__")
