"""What functions refer to travels with them, as far as that makes sense."""

import contextvars
import ctypes
import enum
import functools
import hashlib
import hmac
import io
import multiprocessing
import operator
import pickle
import queue
import re
import socket
import sys
import tempfile
import threading
import traceback
import types
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, SupportsIndex

import cloudpickle
import pytest

from slurm_futures.calls.pickler import dump


class _Store:
    """An object of a program with something in it that cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items = [1, 2]


LOCK, RLOCK, LOCAL = threading.Lock(), threading.RLock(), threading.local()
CONDITION, EVENT = threading.Condition(), threading.Event()
WAITING: queue.Queue[int] = queue.Queue()
SIMPLE: queue.SimpleQueue[int] = queue.SimpleQueue()
WITH_DEFAULT = contextvars.ContextVar("WITH_DEFAULT", default=5)
WITHOUT: contextvars.ContextVar[int] = contextvars.ContextVar("WITHOUT")
CACHED: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
STORE = _Store()
LOCAL.count = 3


def copied(value: Any) -> Any:
    """Return what a job would get."""
    return pickle.loads(dump(value))


def test_global_variables_that_cannot_be_copied_are_made_anew() -> None:
    """As in a process that imports the program; what is around them is copied."""

    def use() -> list[Any]:
        with LOCK, RLOCK, RLOCK, CONDITION, STORE.lock:
            WAITING.put(1)
            SIMPLE.put(2)
            EVENT.set()
        return [
            *(WAITING.get(), SIMPLE.get(), EVENT.wait(1), STORE.items),
            *(vars(LOCAL), WITH_DEFAULT.get(), WITHOUT.get(None), dict(CACHED)),
            *(LOCK, EVENT),
        ]

    with LOCK:  # which is not held there
        *values, lock, event = copied(use)()

    assert values == [1, 2, True, [1, 2], {}, 5, None, {}]
    assert lock is not LOCK
    assert event is not EVENT
    assert not EVENT.is_set()


def test_what_a_pickle_makes_anew_it_makes_once() -> None:
    """Functions that share a lock go on to do so."""
    first, second = copied((lambda: LOCK, lambda: LOCK))

    assert first() is second()


def _synchronized(function: Callable[[], int]) -> Callable[[], int]:
    lock = threading.RLock()

    def locked() -> int:
        with lock:
            return function()

    return locked


def test_lock_of_a_decorator_is_made_anew() -> None:
    """And that of a class."""

    @_synchronized
    def count() -> int:
        return 5

    class Counter:
        lock = threading.Lock()

        def count(self) -> int:
            with self.lock:
                return 7

    assert copied(count)() == 5
    assert copied(Counter)().count() == 7


@pytest.mark.parametrize("value", [LOCK, EVENT, STORE, {"lock": LOCK}])
def test_argument_that_cannot_be_copied_is_refused(value: object) -> None:
    """Whoever passes a lock means that one."""
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        dump((value,))


class _Proxy:
    """Like those of web frameworks outside of a request."""

    def __getattribute__(self, name: str) -> Any:
        if name in {"__class__", "__reduce_ex__"}:
            return object.__getattribute__(self, name)
        raise RuntimeError(name)

    def __reduce_ex__(self, _: Any) -> Any:
        return str, ("proxy",)


PROXY = _Proxy()


def test_proxy_that_raises_is_left_alone() -> None:
    """It is asked for nothing but what pickle asks for."""
    assert copied(lambda: PROXY)() == "proxy"


def test_error_names_the_variable() -> None:
    """Of the function that uses it, which may be called by the one that was sent."""
    connection = socket.socket()

    def inner() -> None:
        connection.listen()

    def outer() -> None:
        inner()

    with connection, pytest.raises(TypeError, match="socket") as caught:
        dump(outer)

    (note,) = caught.value.__notes__
    assert note.endswith("<locals>.inner uses 'connection', which cannot be sent")


def test_error_names_the_own_function_rather_than_that_of_a_library() -> None:
    """Which a client, say, has made for itself, and the program knows nothing of."""
    connection = socket.socket()
    client = functools.partial(print, lambda: connection)

    def call() -> None:
        client()

    call.__module__ = "__main__"
    with connection, pytest.raises(TypeError, match="socket") as caught:
        dump(call)

    (note,) = caught.value.__notes__
    assert note.endswith("<locals>.call uses 'client', which cannot be sent")


def test_names_that_others_have_added_to_python_are_sent_if_they_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What belongs to a notebook alone stays there."""
    here = threading.Lock()
    monkeypatch.setattr("builtins.display", lambda value: value + 1, raising=False)
    monkeypatch.setattr("builtins.input", lambda: here.locked() or print(here))
    monkeypatch.setattr("builtins.ask", here, raising=False)
    function = eval("lambda: (display(1), input, ask)", {"__name__": "__main__"})  # noqa: S307

    names = copied(function).__globals__
    assert names["display"](1) == 2
    assert "ask" not in names
    assert names["input"] is not input


def test_get_ipython_is_that_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook it is a method of this notebook."""
    notebook = types.SimpleNamespace(lock=threading.Lock(), get_ipython=max)
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    names = {"__name__": "__main__", "get_ipython": notebook.lock.acquire}
    function = eval("lambda: get_ipython()", names)  # noqa: S307

    assert copied(function).__globals__["get_ipython"] is max


def test_error_of_an_argument_names_no_variable() -> None:
    """A function that can be sent is not blamed."""
    with pytest.raises(TypeError) as caught:
        dump((lambda: LOCK, threading.Lock()))

    assert not hasattr(caught.value, "__notes__")


_FED = hashlib.sha256(b"1")
_KEYED = hashlib.blake2b(key=b"1")
_GENERATOR = (number for number in range(3))
_POINTER = ctypes.pointer(ctypes.c_int(1))
_KEYED_HASH = hmac.new(b"1", digestmod="sha256")
_TO_C = ctypes.CFUNCTYPE(ctypes.c_int)
_ADDRESS = _TO_C(ctypes.cast(_TO_C(int), ctypes.c_void_p).value or 0)
_CONTEXT = contextvars.copy_context()
_OF_LOCKS = weakref.WeakValueDictionary(lock=STORE.lock)
_WITH_LOCK: contextvars.ContextVar[Any] = contextvars.ContextVar("_WITH_LOCK")
_WITH_LOCK.set([STORE.lock])


@pytest.mark.parametrize(
    ("use", "why"),
    [
        (lambda: _FED, "sha256 that has been given bytes"),
        (lambda: _KEYED, "blake2b that has been given bytes, or a key"),
        (lambda: _GENERATOR, "generator"),
        (lambda: _POINTER, "pointers"),
        (lambda: _KEYED_HASH, "send its key and its message"),
        (lambda: _ADDRESS, "CFunctionType object at .* address in this process"),
        (lambda: _CONTEXT, "Context"),
        (lambda: _OF_LOCKS, "lock"),
        (lambda: _WITH_LOCK, "lock"),
    ],
    ids="hash key generator pointer hmac address context weak variable".split(),
)
def test_what_cannot_be_made_anew_is_named(use: Callable[[], Any], why: str) -> None:
    """With the function that uses it."""
    name = use.__code__.co_names[0]

    with pytest.raises((TypeError, ValueError), match=why) as caught:
        dump(use)

    assert caught.value.__notes__ == [f"<lambda> uses {name!r}, which cannot be sent"]


@pytest.mark.parametrize(
    "match",
    [
        re.compile("b").match("abab", 1),
        re.compile("b").search("abab"),
        re.compile("a|ab").fullmatch("ab"),
        [*re.finditer("b", "abab")][1],
        re.compile("(?<=a)b").match("ab", 1, 2),
    ],
    ids=["match", "search", "fullmatch", "finditer", "behind"],
)
def test_match_is_found_again(match: re.Match[str]) -> None:
    """By the method that finds the same."""
    again = copied(match)

    assert (again.span(), again.string, again.re) == (
        match.span(),
        match.string,
        match.re,
    )


@pytest.mark.parametrize("kind", [weakref.WeakSet, weakref.WeakKeyDictionary])
def test_items_of_weak_containers_stay(kind: Callable[..., Any]) -> None:
    """In the program somebody holds them, in a job perhaps nobody else does."""
    store = _Store()
    store.lock = None  # type: ignore[assignment]

    (again,) = copied(kind(dict.fromkeys([store], 1)))

    assert again.items == store.items


def test_weak_container_may_hold_what_refers_to_it() -> None:
    """As a list of all instances of a class does."""

    class Item:
        everything: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    item = Item()
    Item.everything.add(item)

    again = copied(item)

    assert list(again.everything) == [again]


def test_context_variable_keeps_its_value() -> None:
    """As the caller has it; the default stays what it was."""
    level = contextvars.ContextVar("level", default=1)
    level.set(5)

    again = contextvars.Context().run(copied, lambda: level)()

    assert copied(lambda: level)().get() == 5
    assert again.get() == 1


def test_member_that_is_a_container_is_refused() -> None:
    """Its content would be missing."""
    Route = enum.Enum("Route", {"SHORT": ([1, 2],)}, type=list)  # noqa: N806

    with pytest.raises(TypeError, match=r"a member that is a list, too: put its enum"):
        dump(Route)


def test_match_in_another_text_by_now_is_refused() -> None:
    """It may be one in a buffer."""
    text = bytearray(b"ab")
    match = re.search(b"b", text)
    text[:] = b"cd"

    with pytest.raises(TypeError, match="cannot find this match again"):
        dump(match)


@pytest.mark.parametrize("algorithm", sorted(hashlib.algorithms_guaranteed))
def test_hashes_that_have_been_given_nothing_are_made_anew(algorithm: str) -> None:
    """Whatever OpenSSL or Python itself has for them."""
    assert copied(hashlib.new(algorithm)).name == algorithm


def test_sort_key_of_an_object_travels() -> None:
    """As that which makes keys does."""
    make = functools.cmp_to_key(operator.sub)

    assert copied(make(3)) < copied(make)(4)


def test_connection_is_refused() -> None:
    """Its descriptor would be another file in the job."""
    ours, theirs = multiprocessing.Pipe()

    with ours, theirs, pytest.raises(TypeError, match="cannot use it"):
        dump((ours,))


class _Log(io.TextIOWrapper):
    """A program's own kind of file."""


class _Sendable(io.FileIO):
    """A file that says how it is sent."""

    def __reduce_ex__(self, _: SupportsIndex) -> Any:
        return str, ("again",)


_OPENED: dict[str, Callable[[Path], Any]] = {
    **{mode: partial(Path.open, mode=mode) for mode in "r w a r+ a+ rb wb r+b".split()},
    "raw": partial(Path.open, mode="rb", buffering=0),
    "own": lambda path: _Log(path.open("rb")),
    "temporary": lambda path: tempfile.NamedTemporaryFile(dir=path.parent),  # noqa: SIM115
    "spooled": lambda _: tempfile.SpooledTemporaryFile(),  # noqa: SIM115
    "wrapped": lambda _: io.TextIOWrapper(io.BytesIO()),
}


@pytest.mark.parametrize("way", ["argument", "closure", "global"])
@pytest.mark.parametrize("kind", _OPENED)
def test_open_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, way: str
) -> None:
    """Instead of a copy, into which a call would write in vain."""
    path = tmp_path / "log.txt"
    path.write_text("1")
    named = [] if kind in {"temporary", "spooled", "wrapped"} else [str(path)]

    with _OPENED[kind](path) as file:
        monkeypatch.setitem(globals(), "OPEN_FILE", file)
        sent = {
            "argument": [file],
            "closure": lambda: file,
            "global": lambda: OPEN_FILE,  # type: ignore[name-defined]  # noqa: F821
        }[way]
        with pytest.raises(TypeError, match="open it in the call") as caught:
            dump(sent)

    notes = getattr(caught.value, "__notes__", [])
    assert all(each in str(caught.value) for each in named)
    assert [each.rpartition(" uses ")[2] for each in notes] == {
        "argument": [],
        "closure": ["'file', which cannot be sent"],
        "global": ["'OPEN_FILE', which cannot be sent"],
    }[way]


def test_what_is_no_open_file_of_the_system_is_sent(tmp_path: Path) -> None:
    """So is a file that says itself how."""
    path = tmp_path / "a"
    path.touch()

    with _Sendable(path) as file:
        assert copied(file) == "again"
    assert copied(io.StringIO("a")).getvalue() == "a"
    assert copied(io.BytesIO(b"a")).getvalue() == b"a"


def test_standard_streams_are_those_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a global variable that is one of them, or a handler of logging with it."""
    blobs = {}
    for name in ("stdout", "stderr"):
        with (tmp_path / name).open("w") as stream, monkeypatch.context() as patched:
            patched.setattr(sys, name, stream)
            blobs[name] = dump([stream])

    for name, blob in blobs.items():
        assert pickle.loads(blob)[0] is getattr(sys, name)


def test_code_by_value_keeps_its_file_and_lines() -> None:
    """A traceback from a job shows the line of the program that raised."""
    function = cloudpickle.loads(dump(lambda: 1 / 0))

    with pytest.raises(ZeroDivisionError) as raised:
        function()

    text = "".join(traceback.format_exception(raised.value))
    assert f'File "{__file__}"' in text
    assert "function = cloudpickle.loads(dump(lambda: 1 / 0))" in text
