"""Large objects that several calls share: stored once for all calls of a submission.

An array that each call of a map gets, by `itertools.repeat` or in every item, would
otherwise be written as often as there are calls. Arguments refer to it by a persistent
id instead (pickle's own means), and the calls file holds it once. Each call still gets
an object of its own: what one call does to it no other call sees.

Whether two calls share an object is decided by its content: a program may fill the
same array anew for each item. Only what comes from `itertools.repeat` is trusted to
stay as it is, and so it is pickled once.
"""

from __future__ import annotations

import gc
import hashlib
import io
import itertools
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from slurm_futures.calls.call import PLAIN, Blob, PickledCall, dump_arguments
from slurm_futures.calls.pickler import ByValuePickler, dump

#: Bytes; what is smaller travels with its call.
_LARGE = 1 << 20
#: Types of which there may be millions in an object, never large.
_SMALL = frozenset({int, float, complex, bool, type(None)})

_TEXTS = (str, bytes, bytearray)

#: Equal blobs that wait to be written are one object: a loop of submit calls may pass
#: the same large array a thousand times.
_waiting: weakref.WeakValueDictionary[bytes, Blob] = weakref.WeakValueDictionary()


class CallPickler:
    """Pickles the calls of one `map`, or a single one.

    It keeps references to large arguments, and is dropped when `map` returns.

    Args:
        iterables: of the map; what `itertools.repeat` yields is pickled once.
    """

    def __init__(self, iterables: Iterable[object] = ()) -> None:
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
            arguments = dump_arguments(args, kwargs)
            if len(arguments) < _LARGE:
                return PickledCall(function, arguments)
        self._sharing = True  # the next calls are probably as large
        rich = [each for each in (*args, *kwargs.values()) if type(each) not in PLAIN]
        if len(rich) == 1 and id(rich[0]) in self._blobs:
            return self._pickle_without(rich[0], function, args, kwargs)
        call = self._pickle_without(None, function, args, kwargs)
        # Buffers may be not all of it. A single object beside numbers and the like can
        # be taken out whole; several may be parts of each other.
        if len(call.arguments) < _LARGE or len(rich) != 1:
            return call
        return self._pickle_without(rich[0], function, args, kwargs)

    def _pickle_without(
        self,
        single: object | None,
        function: bytes,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> PickledCall:
        """Pickle arguments without this object, or else without large buffers."""
        buffer = io.BytesIO()
        pickler = _SharingPickler(buffer, self, single)
        pickler.dump((tuple(args), dict(kwargs)))
        return PickledCall(function, buffer.getvalue(), tuple(pickler.shared))

    def find_blob(self, obj: object) -> Blob:
        """Return the pickle of a large object, the same one for the same content."""
        key = id(obj)
        if key in self._blobs:
            return self._blobs[key][1]
        content = dump(obj)
        blob = _waiting.setdefault(hashlib.blake2b(content).digest(), Blob(content))
        if key in self._repeated:
            self._blobs[key] = obj, blob
        return blob


class _SharingPickler(ByValuePickler):
    """Takes large objects out of a pickle."""

    def __init__(
        self, file: io.BytesIO, calls: CallPickler, single: object | None
    ) -> None:
        super().__init__(file)
        self._calls = calls
        self._single = single
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
        if self._single is not None:
            return obj is self._single
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
