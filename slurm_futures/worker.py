"""Runs the calls of one job on the compute node, and defines the files it shares.

    python start.py SUBMISSION INDEX

A copy of this file lies in each run directory, compiled, and start.py runs it. It uses
the standard library alone, and as little of it as it can: start-up is paid once for
each job (`benchmarks/worker_start.py`), and pickle, signal or contextlib would double
it. The client imports the formats below from here: they are written down once.

Calls file (`calls.pkl`, written by the client): blobs one after another, then the
tables that say where they are, then a footer of fixed size.

    magic | blobs ... | jobs table | calls table | uses table | context | footer

    jobs table    for each job: number of its first call, how many calls
    calls table   for each call: offset and length of its function and its arguments,
                  first entry and number of entries in the uses table
    uses table    offset and length of each large object that a call shares with
                  others; the arguments refer to the n-th one by the persistent id n
    context       pickled dict: path, cwd, argv, prefix, version, cloudpickle (its
                  version), initializer, uses

Outcomes file (`outcomes` in the job directory): one record for each call that ended,
in the order in which they ended. A record whose length or checksum is wrong is not
there yet. While the job runs the file has a name of its own attempt, `outcomes.*`.

    magic | position in the job | kind | length | CRC-32 | payload

Marks (`started`, `finished/0-999/7`): symbolic links, whose target is their text. They
appear with it in a single operation, which on a parallel file system makes no file.

A file `given-up` in the job directory is the client's word that it does not wait for
this job any more: a job of several calls looks for it between them, at most every
LOOK_INTERVAL seconds. Then it begins no more of them, and its last record is one of the
kind NOT_BEGUN with the position of the first of these: the client may have taken its
word back in the meantime.
"""

from __future__ import annotations

import os
import sys
import time
from struct import Struct
from zlib import crc32

try:
    from _pickle import dumps, loads
except ImportError:  # not CPython
    from pickle import dumps, loads

try:
    from _frozen_importlib_external import SourceFileLoader
except ImportError:  # not CPython
    from importlib.machinery import SourceFileLoader

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType
    from typing import Any, NoReturn

CALLS_MAGIC = b"SLFCALLS"
CALLS_FOOTER = Struct("<QQQQQQ8s")
JOB_ENTRY = Struct("<QQ")
CALL_ENTRY = Struct("<QQQQQQ")
USE_ENTRY = Struct("<QQ")

OUTCOME_MAGIC = b"SLFO"
OUTCOME_HEADER = Struct("<4sQBQI")

#: Bytes at the end of a calls file that are read at once.
TAIL_SIZE = 4096

#: The highest protocol that Python 3.11 and later have.
PROTOCOL = 5

#: At most so many entries lie in a directory.
BLOCK_SIZE = 1000

#: Kinds of outcomes. The payload of a value is its pickle; that of an exception is the
#: pickle of the dict that `describe_exception` returns. NOT_BEGUN has none: the calls
#: from this position on did not run.
VALUE, EXCEPTION, INITIALIZER_FAILED, NOT_BEGUN = range(4)


#: The client has given the job up; see above.
GIVEN_UP = "given-up"
#: Seconds between two looks for it; and after how many the client can be sure that a
#: job that lives on has seen it, or will see it before its next call.
LOOK_INTERVAL, GIVE_UP_PAUSE = 0.2, 0.5

#: In the place of a function, and not one that somebody may submit by mistake: the job
#: is a worker of a pool.
SERVE_POOL = ("slurm_futures", "serve_pool")

#: This module; in a job it was `__main__` at first.
_this = sys.modules[__name__]
#: What `__main__` is for the calls of this job, and what it was before.
_main_of_calls: ModuleType | None = None
_main_of_job: ModuleType | None = None

#: Where Python itself looks for modules, before the client's path is entered.
_start_path = sys.path[:]

#: The submission and the index of the job that this process runs.
_job: tuple[str, int] = "", 0

#: Version of Python on the client, (3, 11); None: not known, or as here.
_foreign_version: tuple[int, int] | None = None

#: The files behind the descriptors 0, 1 and 2 of the job.
_standard_files: tuple[str, ...] = ()


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

    Raises:
        OSError: it is not there or cannot be read.
        EOFError: it is incomplete.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._functions: dict[tuple[int, ...], _Loaded] = {}
        try:
            self._read_end()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _read_end(self) -> None:
        size = os.fstat(self._descriptor).st_size
        self._tail_offset = max(0, size - TAIL_SIZE)
        self._tail = os.pread(self._descriptor, TAIL_SIZE, self._tail_offset)
        if self._tail[-len(CALLS_MAGIC) :] != CALLS_MAGIC or size < CALLS_FOOTER.size:
            raise EOFError("calls.pkl is incomplete")
        (
            self._jobs_offset,
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
            more = os.pread(self._descriptor, length - len(blob), offset + len(blob))
            if not more:
                raise EOFError("calls.pkl is incomplete")
            blob = blob + more if blob else more
        return blob

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def entries(self, job: int) -> Iterator[tuple[int, ...]]:
        """Yield the entry of each call of the job: where its parts are."""
        first, count = JOB_ENTRY.unpack(
            self.read(self._jobs_offset + job * JOB_ENTRY.size, JOB_ENTRY.size)
        )
        table = self.read(
            self._calls_offset + first * CALL_ENTRY.size, count * CALL_ENTRY.size
        )
        return CALL_ENTRY.iter_unpack(table)

    def load_function(self, entry: tuple[int, ...]) -> Any:
        """Return the function of a call; many calls have the same one."""
        place = entry[:2]
        if place not in self._functions:
            self._functions[place] = self._unpickle(self.read(*place))
        loaded = self._functions[place]
        _add_to_main(loaded.names)  # of those that other calls have put there since
        return loaded.value

    def load_arguments(self, entry: tuple[int, ...]) -> Any:
        """Return args and kwargs of a call, no part of which another call has.

        Functions of `__main__` among them see the global variables of that of the call.
        """
        function = self._functions.get(entry[:2])
        main = None if function is None else function.main
        objects = [self.load(blob, main=main) for blob in self.shared(entry)]
        return self.load(self.read(*entry[2:4]), objects, main)

    def load(
        self,
        blob: bytes,
        objects: Sequence[Any] = (),
        main: dict[str, Any] | None = None,
    ) -> Any:
        """Unpickle what the client has pickled."""
        loaded = self._unpickle(blob, objects, main)
        _add_to_main(loaded.names)
        return loaded.value

    def run_initializer(self, place: tuple[int, int]) -> None:
        """Call the initializer, and keep for the calls what it does to `__main__`."""
        loaded = self._unpickle(self.read(*place))
        _add_to_main(loaded.names)
        function, arguments = loaded.value
        if loaded.main is None:  # importable: it changes what the calls import
            function(*arguments)
            return
        by_value = module_beside("by_value")
        before = dict(loaded.main)
        classes = [
            (each, dict(vars(each))) for each in loaded.made if isinstance(each, type)
        ]
        function(*arguments)
        by_value.kept.keep(before, loaded.main, classes)
        _add_to_main(by_value.kept.names)

    def _unpickle(
        self,
        blob: bytes,
        objects: Sequence[Any] = (),
        main: dict[str, Any] | None = None,
    ) -> _Loaded:
        if not objects and b"cloudpickle" not in blob:
            return _Loaded(loads(blob))
        from io import BytesIO

        by_value = module_beside("by_value")
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


#: Modules that lie beside this one, by name: not in sys.modules, where the calls may
#: have their own of the same names.
_beside: dict[str, ModuleType] = {}


def module_beside(name: str) -> Any:
    """Return a module that lies beside this file; on a node, its compiled copy."""
    if name not in _beside:
        module = type(sys)(name)
        path = f"{os.path.dirname(__file__)}/{name}.py"
        prefix, sys.pycache_prefix = sys.pycache_prefix, None  # as in start.py
        code = SourceFileLoader(name, path).get_code(name)
        sys.pycache_prefix = prefix
        assert code is not None, "there is a file, so there is code"
        import_ours("types")  # of the modules that they import the only one not there
        exec(code, vars(module))  # noqa: S102
        _beside[name] = module
    return _beside[name]


def import_ours(name: str) -> Any:
    """Import what this file needs late, whatever the calls' path has of that name."""
    if name not in sys.modules:
        path = sys.path[:]
        sys.path[:0] = _start_path
        try:
            __import__(name)
        finally:
            sys.path[:] = path
    return sys.modules[name]


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


def pack_outcome(position: int, kind: int, payload: bytes) -> bytes:
    """Return the record of one outcome."""
    header = (OUTCOME_MAGIC, position, kind, len(payload), crc32(payload))
    return OUTCOME_HEADER.pack(*header) + payload


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of it, however little the system takes at a time.

    Raises:
        OSError: it does not fit; nothing of it is left, so that there is some room for
            the words that tell of it.
    """
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    rest = memoryview(content)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        os.ftruncate(descriptor, start)
        os.lseek(descriptor, start, os.SEEK_SET)
        raise


class Look:
    """Tells when it is time to look again whether calls are still wanted."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last look was LOOK_INTERVAL ago."""
        now = time.monotonic()
        due = now - self._last >= LOOK_INTERVAL
        if due:
            self._last = now
        return due


class OutcomesFile:
    """Where the outcomes of one attempt at a job go, one after another."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._final = f"{directory}/outcomes"
        self._look = Look()
        attempt = os.environ.get("SLURM_RESTART_COUNT", "0")
        host = os.uname().nodename
        self._own = f"{self._final}.{attempt}-{host}-{os.getpid()}"
        self._pid = os.getpid()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(self._own, flags, 0o600)

    def append(self, position: int, kind: int, payload: bytes) -> None:
        """Write the outcome of one call."""
        if os.getpid() != self._pid:
            os._exit(0)  # the call forked, and its child came back here as well
        write_all(self._descriptor, pack_outcome(position, kind, payload))

    def are_wanted(self) -> bool:
        """Whether the client still waits for this job; Slurm may have lost its node."""
        # Listed: NFS may go on for long to say of a name that it is not there.
        if not self._look.is_due():
            return True
        try:
            return GIVEN_UP not in os.listdir(self._directory)
        except FileNotFoundError:
            return False
        except OSError:  # the next look will tell
            return True

    def publish(self) -> None:
        """Give the complete file its final name; the later of two attempts stays."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        os.rename(self._own, self._final)


def block_of(index: int) -> str:
    """Return the directory of an entry, such as "0-999", as the job script does."""
    first = index // BLOCK_SIZE * BLOCK_SIZE
    return f"{first}-{first + BLOCK_SIZE - 1}"


def main(submission: str, index: str) -> int:
    """Run all calls of the job; return the exit code of the job."""
    global _job  # noqa: PLW0603  (one process, one job)
    _job = os.path.basename(submission), int(index)
    _restore_interrupts()
    block = block_of(int(index))
    directory = f"{submission}/jobs/{block}/{index}"
    _enter_job_directory(directory)
    outcomes = OutcomesFile(directory)
    calls = CallsFile(f"{submission}/calls.pkl")
    enter_context(calls.context)
    _give_calls_a_main()
    failed = _run_calls(calls, int(index), outcomes)
    calls.close()
    outcomes.publish()
    exit_code = 1 if failed else 0
    leave_mark(f"{submission}/finished/{block}/{index}", str(exit_code))
    return exit_code


def _enter_job_directory(directory: str) -> None:
    """Make the job directory, and let what is printed from now on go there."""
    try:
        os.mkdir(directory)
    except FileExistsError:  # an earlier attempt has made it
        pass
    global _standard_files  # noqa: PLW0603  (one process, one job)
    _standard_files = os.devnull, f"{directory}/stdout", f"{directory}/stderr"
    for descriptor in (1, 2):
        _open_standard_file(descriptor)
    _reopen_standard_files()
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # what is printed is there while the call runs
        reconfigure(line_buffering=True)
    host = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
    job_id = os.environ.get("SLURM_JOB_ID", "0")
    started = f"{host} {job_id} {os.environ.get('SLURM_RESTART_COUNT', '0')}"
    leave_mark(f"{directory}/started", started)


def _open_standard_file(descriptor: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if descriptor else os.O_RDONLY
    file = os.open(_standard_files[descriptor], flags, 0o666)
    if file == descriptor:
        os.set_inheritable(file, True)
    else:
        os.dup2(file, descriptor)
        os.close(file)


def _reopen_standard_files() -> None:
    """Open those that a call has closed, before another file gets the number."""
    for descriptor in range(len(_standard_files)):
        try:
            os.get_inheritable(descriptor)  # does not touch the file, as fstat may
        except OSError:
            try:
                _open_standard_file(descriptor)
            except OSError:  # the next call will find it closed, as it may be used to
                return


def _restore_interrupts() -> None:
    """Undo that bash lets a background process ignore SIGINT and SIGQUIT."""
    import _signal  # type: ignore[import-not-found]  # signal itself imports enum

    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    _signal.signal(_signal.SIGQUIT, _signal.SIG_DFL)


def enter_context(context: dict[str, Any]) -> None:
    """Look at modules, arguments and files as the client does."""
    global _foreign_version  # noqa: PLW0603  (one process, one client)
    here = (sys.prefix, sys.version_info[:2])
    _foreign_version = None if here[1] == context["version"] else context["version"]
    if here == (context["prefix"], context["version"]):
        sys.path[:] = context["path"]
    else:  # another Python: take over what is not the client's own installation
        own = f"{context['prefix']}/", f"{context['base_prefix']}/"
        foreign = [
            entry for entry in context["path"] if not f"{entry}/".startswith(own)
        ]
        sys.path[:] = foreign + [entry for entry in sys.path if entry not in foreign]
    sys.argv[:] = context["argv"]
    try:
        os.chdir(context["cwd"])
    except OSError as error:
        print(
            f"slurm_futures: cannot enter the directory of the client: {error}; "
            f"the calls run in {os.getcwd()}",
            file=sys.stderr,
        )


def _give_calls_a_main() -> None:
    """Let `__main__` be a module for what the calls bring along from the client's.

    So a call can import it, and pickle its functions and instances for processes that
    it forks.
    """
    global _main_of_calls, _main_of_job  # noqa: PLW0603  (one process, one job)
    _main_of_job = sys.modules["__main__"]
    _main_of_calls = type(sys)("__main__")
    _main_of_calls.__file__ = __file__  # some take a program without it for interactive
    sys.modules["__main__"] = _main_of_calls


def _add_to_main(names: dict[str, Any]) -> None:
    if _main_of_calls is not None:
        vars(_main_of_calls).update(names)


def _run_calls(calls: CallsFile, job: int, outcomes: OutcomesFile) -> bool:
    """Run the calls one after another; return whether any of them failed."""
    initializer = calls.context["initializer"]
    if initializer is not None:
        try:
            calls.run_initializer(initializer)
            _reopen_standard_files()
        except BaseException as error:  # noqa: BLE001  (SystemExit counts as well)
            _append_exception(outcomes, 0, INITIALIZER_FAILED, error)
            return True
    failed = False
    for position, entry in enumerate(calls.entries(job)):
        if position and not outcomes.are_wanted():
            outcomes.append(position, NOT_BEGUN, b"")
            return True  # the others run in another job
        failed |= run_call(calls, entry, position, outcomes)
    return failed


def run_call(
    calls: CallsFile,
    entry: tuple[int, ...],
    position: int,
    outcomes: OutcomesFile,
) -> bool:
    """Run one call and append its outcome; return whether it failed."""
    try:
        value = _call(calls, entry)
    except BaseException as error:  # noqa: BLE001  (as in concurrent.futures)
        _append_exception(outcomes, position, EXCEPTION, error)
        return True
    try:
        payload = dump(value)
    except BaseException as error:  # noqa: BLE001  (whatever a reducer may raise)
        add_note(
            error,
            f"The call ended well, but its value of type {type(value).__name__!r} "
            "cannot be sent back. Return plain data, or write it to a file and "
            "return the name.",
        )
        _append_exception(outcomes, position, EXCEPTION, error)
        return True
    finally:
        del value
        _flush()
    try:
        outcomes.append(position, VALUE, payload)
    except OSError as error:  # the disk is full
        add_note(
            error,
            f"The call ended well, but its value ({len(payload)} bytes) could not be "
            "written to the directory of the run.",
        )
        _append_exception(outcomes, position, EXCEPTION, error)
        return True
    return False


def _call(calls: CallsFile, entry: tuple[int, ...]) -> Any:
    try:
        function = calls.load_function(entry)
        arguments, keywords = calls.load_arguments(entry)
    except BaseException as error:
        add_note(
            error,
            f"The call could not be loaded on {os.uname().nodename}, so it did not "
            f"run. The job looked for modules in {sys.path}.",
        )
        raise
    if type(function) is tuple and function == SERVE_POOL:
        return _serve_pool(*arguments)
    try:
        return function(*arguments, **keywords)
    finally:
        _reopen_standard_files()


def _serve_pool(root: str, *settings: Any) -> int:
    """Be a worker of a pool; `SERVE_POOL` in the place of a function leads here."""
    name, index = _job
    workers = module_beside("pool_worker").PoolWorker(
        _this, root, f"{name}-{index}", index, *settings
    )
    return int(workers.serve())


def dump(value: Any) -> bytes:
    """Pickle by reference where that works, else by value with cloudpickle.

    What belongs to `__main__` goes by value, and is the same there again: the client
    may have another object of the name by now. Some of it cloudpickle cannot write
    (caches of functions); that goes by reference.
    """
    main = sys.modules.get("__main__")
    if main is None or main is not _main_of_calls:
        return _dump(value)
    assert _main_of_job is not None, "they are set together"
    sys.modules["__main__"] = _main_of_job
    try:
        return _dump(value)
    except Exception as error:  # noqa: BLE001  (whatever a reducer may raise)
        sys.modules["__main__"] = main
        try:
            return dumps(value, PROTOCOL)
        except Exception:  # noqa: BLE001  (the first one tells more)
            raise error from error.__cause__
    finally:
        sys.modules["__main__"] = main


def _dump(value: Any) -> bytes:
    try:
        return dumps(value, PROTOCOL)
    except RecursionError:
        raise  # cloudpickle has another name for it
    except Exception:  # noqa: BLE001  (whatever a reducer may raise)
        blob = bytes(import_ours("cloudpickle").dumps(value, PROTOCOL))
    if _foreign_version is not None and b"_make_function" in blob:
        foreign_code = module_beside("by_value").foreign_code
        raise RuntimeError(foreign_code(_foreign_version, sys.version_info[:2]))
    return blob


def load_outcome(blob: bytes) -> Any:
    """Unpickle what a call has left, to see whether the client can."""
    if b"cloudpickle" not in blob:
        return loads(blob)
    return module_beside("by_value").load_outcome(blob)


def add_note(error: BaseException, note: str) -> None:
    """Add a note, also to an exception whose class lets nobody set an attribute."""
    try:
        notes = [*getattr(error, "__notes__", ()), note]
        # Not `add_note`: the class may be a frozen dataclass.
        BaseException.__setattr__(error, "__notes__", notes)
    except Exception:  # noqa: BLE001, S110
        pass  # the exception is more than its note


def _append_exception(
    outcomes: OutcomesFile, position: int, kind: int, error: BaseException
) -> None:
    outcomes.append(position, kind, dump(describe_exception(error)))
    _flush()


def describe_exception(error: BaseException) -> dict[str, Any]:
    """Return what the client needs to raise this exception again; see call_errors."""
    described: dict[str, Any] = module_beside("call_errors").describe(_this, error)
    return described


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S110
            pass  # the call may have closed or replaced it


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
    except OSError:
        with open(path, encoding="utf-8") as file:
            return file.read()


def leave(exit_code: int) -> NoReturn:
    """End the process, at once where nobody would notice: that spares 3 ms of CPU.

    Python tears itself down before it ends. Processes that multiprocessing forks do
    without that; here it is left out only where the calls have left nothing behind.
    """
    if _left_nothing():
        _flush()
        os._exit(exit_code)
    sys.exit(exit_code)


def _left_nothing() -> bool:
    """Whether there is no thread, exit function, open file or foreign library.

    A library in C may have output of its own that it writes when the process ends.
    """
    import _thread

    atexit = sys.modules.get("atexit")
    if _thread._count() or (atexit is not None and atexit._ncallbacks()):
        return False
    ours = f"{os.path.dirname(os.__file__)}/lib-dynload/"
    for module in list(sys.modules.values()):
        origin = getattr(getattr(module, "__spec__", None), "origin", None) or ""
        if origin.endswith(".so") and not origin.startswith(ours):
            return False
    try:
        descriptors = set(os.listdir("/proc/self/fd"))
    except OSError:
        return False
    # One is that of the listing.
    return "_ctypes" not in sys.modules and len(descriptors - {"0", "1", "2"}) <= 1


if __name__ == "__main__":
    entry_point: Callable[..., int] = main
    leave(entry_point(*sys.argv[1:]))
