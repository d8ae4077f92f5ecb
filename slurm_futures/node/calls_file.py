"""Reads the calls of a job out of a calls file, which `formats.py` describes."""

from __future__ import annotations

import _thread
import errno
import os

from .formats import (
    CALL_ENTRY,
    CALLS_FOOTER,
    CALLS_MAGIC,
    JOB_ENTRY,
    SERVE_POOL,
    TAIL_SIZE,
    USE_ENTRY,
    WRITABLE_BY_OTHERS,
)
from .modules import add_to_main, import_ours, load_unpickler, note_loading
from .own_file import OwnFile
from .patience import insist

try:
    from _pickle import loads
except ImportError:  # not CPython
    from pickle import loads

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


class _Loaded:
    """What has been unpickled.

    Attributes:
        names: what `__main__` of the client is known to have, by its name.
        made: functions and classes that were made for it.
        main: the global variables of those functions that are of `__main__`.
    """

    def __init__(
        self, value: Any, made: Sequence[Any] = (), main: dict[str, Any] | None = None
    ) -> None:
        self.value = value
        self.made = made
        self.main = main
        self.names: dict[str, Any] = {}


class CallsFile:
    """Reads the calls of one job out of a calls file.

    The end of the file is read at once: of a small one, that is all there is to read.

    Attributes:
        problem: the error for which nothing more can be read of it.
        jobs_offset: where the jobs table begins.

    Raises:
        OSError: it is not there or cannot be read, or others may have written it.
        EOFError: it is incomplete.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = insist(OwnFile, [os.fspath(path)], os.O_RDONLY)
        self._functions: dict[tuple[int, ...], _Loaded] = {}
        self.problem: OSError | None = None
        self._tail_offset, self._tail = 0, b""
        self._state = [0, 0]
        try:
            self._read_end()
        except BaseException:
            self._file.close()
            raise

    def _read_end(self) -> None:
        status = insist(self._status)
        size = status.st_size
        if status.st_uid != os.geteuid() or status.st_mode & WRITABLE_BY_OTHERS:
            raise PermissionError(errno.EACCES, "calls.pkl is not yours alone")
        self._tail_offset = max(0, size - TAIL_SIZE)
        self._tail = insist(self._read, TAIL_SIZE, self._tail_offset)
        if self._tail[-len(CALLS_MAGIC) :] != CALLS_MAGIC or size < CALLS_FOOTER.size:
            raise EOFError("calls.pkl is incomplete")
        (
            self.jobs_offset,
            self.job_count,
            self._calls_offset,
            self.call_count,
            context_offset,
            context_length,
            _,
        ) = CALLS_FOOTER.unpack(self._tail[-CALLS_FOOTER.size :])
        self.context: dict[str, Any] = loads(self.read(context_offset, context_length))

    def read(self, offset: int, length: int) -> bytes:
        """Return a part of the file."""
        start = offset - self._tail_offset
        blob = self._tail[start : start + length] if start >= 0 else b""
        while len(blob) < length:  # Linux reads at most 2 GiB at a time
            try:
                more = insist(self._read, length - len(blob), offset + len(blob))
            except OSError as error:
                self.problem = error
                raise
            if not more:
                raise EOFError("calls.pkl is incomplete")
            blob = blob + more if blob else more
        return blob

    def _status(self) -> os.stat_result:
        try:
            return os.fstat(self._file.descriptor)
        except OSError:
            self._file.renew()
            raise

    def _read(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._file.descriptor, length, offset)
        except OSError:
            self._file.renew()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def entries(self, job: int) -> Iterator[tuple[int, ...]]:
        """Yield the entry of each call of the job: where its parts are."""
        first, count, *self._state = JOB_ENTRY.unpack(
            self.read(self.jobs_offset + job * JOB_ENTRY.size, JOB_ENTRY.size)
        )
        table = self.read(
            self._calls_offset + first * CALL_ENTRY.size, count * CALL_ENTRY.size
        )
        return CALL_ENTRY.iter_unpack(table)

    def load_state(self) -> dict[str, Any]:
        """Return the state of the caller for the calls of the last `entries`."""
        offset, length = self._state
        found: dict[str, Any] = self.context["state"]
        return loads(self.read(offset, length)) if length else found

    def is_pool_worker(self, entry: tuple[int, ...]) -> bool:
        """Whether the job is a worker of a pool."""
        offset, length = entry[:2]
        return length == len(SERVE_POOL) and self.read(offset, length) == SERVE_POOL

    def load_function(self, entry: tuple[int, ...]) -> Any:
        """Return the function of a call; many calls have the same one."""
        place = entry[:2]
        if place not in self._functions:
            self._functions[place] = self._unpickle(self.read(*place))
        loaded = self._functions[place]
        add_to_main(loaded.names)  # of those that other calls have put there since
        return loaded.value

    def load_arguments(self, entry: tuple[int, ...]) -> Any:
        """Return args and kwargs of a call, no part of which another call has.

        Functions of `__main__` among them see the global variables of that of the call.
        """
        function = self._functions.get(entry[:2])
        main = None if function is None else function.main
        objects = []
        for blob in self.shared(entry):
            loaded = self._unpickle(blob, main=main)
            add_to_main(loaded.names)
            objects.append(loaded.value)
            if main is None:  # a large function comes as the first of the arguments
                main = loaded.main
        loaded = self._unpickle(self.read(*entry[2:4]), objects, main)
        add_to_main(loaded.names)
        return loaded.value

    def run_initializer(self, place: tuple[int, int]) -> None:
        """Call the initializer, and keep for the calls what it does to `__main__`."""
        loaded = self._unpickle(self.read(*place))
        add_to_main(loaded.names)
        function, arguments = loaded.value
        if loaded.main is None:  # importable: it changes what the calls import
            function(*arguments)
            return
        kept = load_unpickler().kept
        before = dict(loaded.main)
        classes = [
            (each, dict(vars(each))) for each in loaded.made if isinstance(each, type)
        ]
        function(*arguments)
        kept.keep(before, loaded.main, classes)
        add_to_main(kept.names)

    def _unpickle(
        self,
        blob: bytes,
        objects: Sequence[Any] = (),
        main: dict[str, Any] | None = None,
    ) -> _Loaded:
        note_loading(_thread.get_ident())
        try:
            return self._load(blob, objects, main)
        finally:
            note_loading(None)

    def _load(
        self, blob: bytes, objects: Sequence[Any], main: dict[str, Any] | None
    ) -> _Loaded:
        if not objects and b"cloudpickle" not in blob:
            return _Loaded(loads(blob))
        from io import BytesIO

        by_value = load_unpickler()
        unpickler = by_value.ByValueUnpickler(BytesIO(blob))
        made: list[Any] = []
        unpickler.made = made
        unpickler.objects = objects
        unpickler.import_ours = import_ours
        unpickler.version = self.context["version"]
        release = by_value.release_of(self.context["cloudpickle"])
        unpickler.without_cloudpickle = release in by_value.KNOWN_RELEASES
        if main is not None:
            unpickler.main = main
        value = by_value.load_and_let_go(unpickler)
        loaded = _Loaded(value, made, unpickler.main)
        if made:
            loaded.names = by_value.names_in_main(made, loaded.value)
        return loaded

    def shared(self, entry: tuple[int, ...]) -> Iterator[bytes]:
        """Yield the large objects that the arguments of a call refer to."""
        for place in self.places_of_shared(entry):
            yield self.read(*place)

    def places_of_shared(self, entry: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield where these objects are: offset and length."""
        first, count = entry[4:]
        start = self.context["uses"] + first * USE_ENTRY.size
        table = self.read(start, count * USE_ENTRY.size) if count else b""
        return USE_ENTRY.iter_unpack(table)
