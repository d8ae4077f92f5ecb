"""Large objects that several calls share: pickled once, stored once.

An array that each call of a map gets, by `itertools.repeat` or in every item, would
otherwise be written as often as there are calls. Arguments refer to it by a persistent
id instead (pickle's own means), and the calls file holds it once. Each call still gets
an object of its own: what one call does to it no other call sees.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from slurm_futures.serialization import (
    Blob,
    ByValuePickler,
    PickledCall,
    dump_arguments,
)

#: Bytes; a smaller object travels with its call.
_LARGE = 1 << 20
_CONTAINERS = (list, tuple, dict, set, frozenset)


#: Equal blobs that wait to be written are one object: a loop of submit calls may pass
#: the same large array a thousand times.
_waiting: weakref.WeakValueDictionary[bytes, Blob] = weakref.WeakValueDictionary()


class CallPickler:
    """Pickles the calls of one `map`, or a single one.

    Between two calls of the same map an object is trusted not to change; the pickler,
    and with it all references to arguments, is dropped when `map` returns.
    """

    def __init__(self) -> None:
        self._sharing = False
        self._blobs: dict[int, tuple[object, Blob]] = {}

    def pickle(
        self, function: bytes, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> PickledCall:
        """Pickle the arguments of a call.

        Raises:
            Exception: whatever the reducers of the arguments raise.
        """
        if not self._sharing and not any(map(_is_large, args)):
            arguments = dump_arguments(args, kwargs)
            if len(arguments) < _LARGE:
                return PickledCall(function, arguments)
        self._sharing = True  # the next calls are probably as large
        buffer = io.BytesIO()
        pickler = _SharingPickler(buffer, self._blobs)
        pickler.dump((tuple(args), dict(kwargs)))
        return PickledCall(function, buffer.getvalue(), tuple(pickler.shared))


class _SharingPickler(ByValuePickler):
    """Takes large objects out of a pickle."""

    def __init__(self, file: io.BytesIO, blobs: dict[int, tuple[object, Blob]]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._blobs = blobs
        self._places: dict[int, int] = {}
        #: The blobs that this pickle refers to, by their place.
        self.shared: list[Blob] = []

    def persistent_id(self, obj: object) -> int | None:
        """Return the place of a large object among the shared ones."""
        if not _is_large(obj):
            return None
        key = id(obj)
        if key not in self._places:
            if key not in self._blobs:
                self._blobs[key] = obj, _make_blob(obj)
            self._places[key] = len(self.shared)
            self.shared.append(self._blobs[key][1])
        return self._places[key]


def _is_large(obj: object) -> bool:
    if isinstance(obj, str | bytes | bytearray):
        return len(obj) >= _LARGE
    if isinstance(obj, _CONTAINERS):
        return sys.getsizeof(obj) >= _LARGE
    size = getattr(obj, "nbytes", 0)  # an array of NumPy or the like, a memoryview
    return isinstance(size, int) and size >= _LARGE and not isinstance(obj, type)


def _make_blob(obj: object) -> Blob:
    buffer = io.BytesIO()
    ByValuePickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(obj)
    content = buffer.getbuffer()
    key = hashlib.blake2b(content).digest()
    return _waiting.setdefault(key, Blob(bytes(content)))
