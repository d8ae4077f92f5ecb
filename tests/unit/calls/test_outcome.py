"""Calls and outcomes to bytes and back; whatever comes, an outcome can be loaded."""

import contextlib
import dataclasses
import functools
import gc
import io
import os
import pickle
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_futures.calls.call import Blob, PickledCall, dump_arguments, function_name
from slurm_futures.calls.outcome import Outcome, load_outcome
from slurm_futures.calls.pickler import CLOUDPICKLE_VERSION, dump
from slurm_futures.errors import OutcomeNotReadable, RemoteTraceback
from slurm_futures.node import calls_file, exceptions, formats, values
from slurm_futures.runs.calls_file import read_calls, write_calls

CONTEXT: dict[str, Any] = {
    "cwd": "/",
    "cloudpickle": CLOUDPICKLE_VERSION,
    "version": sys.version_info[:2],
    "initializer": None,
}


def make_call(*args: object, **kwargs: object) -> PickledCall:
    """Return the call of a function that many calls share."""
    return PickledCall(dump(divmod), dump_arguments(args, kwargs))


def test_calls_survive_the_round_trip(tmp_path: Path) -> None:
    """Each job finds its own calls, in their order."""
    path = tmp_path / "calls.pkl"
    write_calls(path, [[make_call(1)], [make_call(2), make_call(3, n=4)]], CONTEXT)

    with contextlib.closing(calls_file.CallsFile(path)) as calls:
        arguments = [
            [calls.load_arguments(entry) for entry in calls.entries(job)]
            for job in (0, 1)
        ]

    assert arguments == [[((1,), {})], [((2,), {}), ((3,), {"n": 4})]]
    assert (calls.job_count, calls.call_count) == (2, 3)
    assert calls.context["cwd"] == "/"


def test_calls_keep_their_numbers(tmp_path: Path) -> None:
    """Those that are submitted again, too; a digest is made for some."""
    path = tmp_path / "calls.pkl"
    numbered = [
        replace(make_call(each), number=each, digest=digest)
        for each, digest in enumerate((b"", b"d" * 20, b""))
    ]
    write_calls(path, [numbered[:1], numbered[1:]], CONTEXT)

    found = read_calls(path, 1, (1, 0), None)

    assert [(each.number, each.digest) for each in found] == [(2, b""), (1, b"d" * 20)]


def test_arguments_do_not_wait_for_the_garbage_collector(tmp_path: Path) -> None:
    """A worker that lives on would collect them."""

    class Thing:
        pass

    path = tmp_path / "calls.pkl"
    call = PickledCall(dump(abs), dump_arguments((Thing(),), {}))
    write_calls(path, [[call]], CONTEXT)
    gc.collect()
    gc.disable()
    try:
        with contextlib.closing(calls_file.CallsFile(path)) as calls:
            (entry,) = calls.entries(0)
            (thing,), _ = calls.load_arguments(entry)
        reference = weakref.ref(thing)
        del thing
        assert reference() is None
    finally:
        gc.enable()


def nested(depth: int) -> list[Any]:
    """Return lists within lists."""
    outer: list[Any] = []
    for _ in range(depth):
        outer = [outer]
    return outer


@pytest.mark.parametrize("dump_it", [dump, values.dump], ids=["here", "in the job"])
def test_what_is_too_deep_says_so(dump_it: Callable[[object], bytes]) -> None:
    """With the error that pickle has for it."""
    with pytest.raises(RecursionError):
        dump_it(nested(100_000))


def test_function_of_all_calls_is_stored_once(tmp_path: Path) -> None:
    """However large it is, and however many calls there are."""
    call = PickledCall(dump(b"\1\2\3" * 10_000), dump_arguments((), {}))
    path = tmp_path / "calls.pkl"

    write_calls(path, [[call]] * 100, CONTEXT)

    assert path.read_bytes().count(b"\1\2\3" * 10_000) == 1


def test_function_of_all_calls_is_loaded_once(tmp_path: Path) -> None:
    """Calls of one job share the object."""
    path = tmp_path / "calls.pkl"
    write_calls(path, [[PickledCall(dump([]), b"")] * 2], CONTEXT)

    with contextlib.closing(calls_file.CallsFile(path)) as calls:
        first, second = map(calls.load_function, calls.entries(0))

    assert first is second


def test_initializer_travels_with_the_calls(tmp_path: Path) -> None:
    """Once for each submission."""
    path = tmp_path / "calls.pkl"
    initializer = dump((divmod, (7, 2)))
    write_calls(path, [[make_call(1)]], {**CONTEXT, "initializer": initializer})

    with contextlib.closing(calls_file.CallsFile(path)) as calls:
        function, arguments = pickle.loads(calls.read(*calls.context["initializer"]))

    assert function(*arguments) == (3, 1)


def test_objects_that_calls_share_are_stored_once(tmp_path: Path) -> None:
    """And loaded for each call anew: what one does to it no other sees."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> int | None:
            return 0 if obj is table else None

    table = list(range(10_000))
    buffer = io.BytesIO()
    Pickler(buffer).dump(((table, table), {}))
    blob = Blob(dump(table))
    call = PickledCall(dump(max), buffer.getvalue(), (blob,))
    path = tmp_path / "calls.pkl"
    write_calls(path, [[call, call]], CONTEXT)

    with contextlib.closing(calls_file.CallsFile(path)) as calls:
        first, second = (calls.load_arguments(entry)[0] for entry in calls.entries(0))

    assert path.read_bytes().count(blob.content) == 1
    assert first == second == (table, table)
    assert first[0] is first[1]
    assert first[0] is not second[0]


def test_call_with_shared_objects_can_be_read_back(tmp_path: Path) -> None:
    """With all that it refers to."""
    call = PickledCall(dump(max), b"arguments", (Blob(b"one"), Blob(b"two")))
    path = tmp_path / "calls.pkl"
    write_calls(path, [[make_call(1)], [call]], CONTEXT)

    (back,) = read_calls(path, 1, [0], call.state)

    assert [blob.content for blob in back.shared] == [b"one", b"two"]
    assert (back.function, back.arguments) == (call.function, call.arguments)


@pytest.mark.parametrize("length", [0, 10, 60, -1])
def test_truncated_calls_are_noticed(tmp_path: Path, length: int) -> None:
    """A job that starts early must not run half of its calls."""
    path = tmp_path / "calls.pkl"
    write_calls(path, [[make_call(1)]], CONTEXT)
    path.write_bytes(path.read_bytes()[:length])

    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(EOFError):
        calls_file.CallsFile(path)
    assert os.listdir("/proc/self/fd") == descriptors


def test_table_beyond_the_end_is_noticed(tmp_path: Path) -> None:
    """As after a bad copy."""
    path = tmp_path / "calls.pkl"
    write_calls(path, [[make_call(1)]], CONTEXT)

    calls = calls_file.CallsFile(path)
    with contextlib.closing(calls), pytest.raises(EOFError, match="incomplete"):
        calls.read(10, 10_000)


def test_large_table_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux reads at most 2 GiB at a time."""
    path = tmp_path / "calls.pkl"
    call = PickledCall(dump(max), dump_arguments((bytes(range(250)) * 100,), {}))
    write_calls(path, [[call]], CONTEXT)
    read = os.pread
    monkeypatch.setattr(
        os, "pread", lambda fd, length, at: read(fd, min(length, 10_000), at)
    )

    with contextlib.closing(calls_file.CallsFile(path)) as calls:
        (entry,) = calls.entries(0)
        assert calls.read(*entry[2:4]) == call.arguments


def test_calls_can_be_read_back(tmp_path: Path) -> None:
    """To submit them once more."""
    path = tmp_path / "calls.pkl"
    calls = [make_call(number) for number in range(4)]
    write_calls(path, [calls[:1], calls[1:]], CONTEXT)

    assert read_calls(path, 1, [0, 2], calls[0].state) == [calls[1], calls[3]]


def test_calls_that_are_read_back_share_what_they_have_in_common(
    tmp_path: Path,
) -> None:
    """However many they are, the file is opened once and an object is there once."""
    path = tmp_path / "calls.pkl"
    blob = Blob(bytes(1000))
    call = dataclasses.replace(make_call(1), shared=(blob,))
    write_calls(path, [[call] * 3], CONTEXT)

    first, *others = read_calls(path, 0, range(3), call.state)

    assert first.shared[0].content == blob.content
    assert all(each.function is first.function for each in others)
    assert all(each.shared[0] is first.shared[0] for each in others)


def test_lambdas_and_closures_travel_by_value() -> None:
    """As nothing can be imported by their name."""
    factor = 3

    loaded = pickle.loads(dump(lambda x: factor * x))

    assert loaded(2) == 6


class Custom(Exception):
    """Has a constructor with two arguments, and passes one on."""

    def __init__(self, word: str, code: int) -> None:
        super().__init__(f"{word} {code}")
        self.code = code


class KeywordOnly(Exception):
    """Cannot be made from its args."""

    def __init__(self, *, code: int) -> None:
        super().__init__("text", code)
        self.code = code


class HoldsFile(Exception):
    """Has an attribute that cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.handle = (number for number in range(3))


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses every assignment."""

    code: int = 1


@dataclasses.dataclass(frozen=True)
class FrozenFields(Exception):
    """Refuses every assignment, also of its own fields."""

    code: int
    word: str = "none"


class Slotted(Exception):
    """Has an attribute that is not in its dict."""

    __slots__ = ("code",)

    def __init__(self, word: str, code: int) -> None:
        super().__init__(f"{word} {code}")
        self.code = code


class NewKeywords(Exception):
    """Cannot even be made without its keyword."""

    def __new__(cls, word: str, *, code: int) -> "NewKeywords":  # noqa: ARG004
        """Take what the constructor takes."""
        return super().__new__(cls, word)

    def __init__(self, word: str, *, code: int) -> None:
        super().__init__(word)
        self.code = code


class Silent(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


def send(error: BaseException) -> Outcome:
    """Return what arrives when a call raises this exception."""
    try:
        raise error
    except BaseException as raised:  # noqa: BLE001  (as the worker does)
        payload = values.dump(exceptions.describe(raised))
    return load_outcome(formats.EXCEPTION, payload)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text"),
        KeyError("missing"),
        FileNotFoundError(2, "No such file or directory", "/data"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        SystemExit(3),
        KeyboardInterrupt(),
        Custom("word", 7),
        KeywordOnly(code=7),
        Frozen(7),
        FrozenFields(5),
        FrozenFields(code=5, word="word"),
        NewKeywords("word", code=7),
        ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_come_back_as_themselves(error: BaseException) -> None:
    """With class, arguments and attributes, and the traceback of the node."""
    received = send(error).exception

    assert type(received) is type(error)
    assert str(received) == str(error)
    assert vars(received) == vars(error)
    assert isinstance(received.__cause__, RemoteTraceback)
    assert "in send" in str(received.__cause__)


def test_slots_of_an_exception_come_back() -> None:
    """As other attributes do."""
    received = send(Slotted("word", 7)).exception

    assert isinstance(received, Slotted)
    assert (str(received), received.code) == ("word 7", 7)


def test_members_of_a_group_come_back_as_themselves() -> None:
    """Also those that pickle cannot rebuild, in groups within the group."""
    inner = ExceptionGroup("inner", [FrozenFields(5), KeyError("b")])
    received = send(ExceptionGroup("outer", [Custom("word", 7), inner])).exception

    assert isinstance(received, ExceptionGroup)
    custom, group = received.exceptions
    assert isinstance(custom, Custom)
    assert (str(custom), custom.code) == ("word 7", 7)
    assert isinstance(group, ExceptionGroup)
    assert group.message == "inner"
    assert group.exceptions[0] == FrozenFields(5)
    assert received.message == "outer"


def test_attributes_that_cannot_be_sent_become_their_repr() -> None:
    """Better than no exception at all."""
    received = send(HoldsFile("broken")).exception

    assert isinstance(received, HoldsFile)
    assert "generator object" in str(received.handle)


def test_notes_come_back() -> None:
    """Python 3.11's `add_note`."""
    error = ValueError("text")
    error.add_note("seed 7")

    received = send(error).exception

    assert received is not None
    assert received.__notes__ == ["seed 7"]


def test_exception_without_words_comes_back() -> None:
    """Formatting it fails on both sides."""
    assert isinstance(send(Silent()).exception, Silent | OutcomeNotReadable)


def test_exception_that_cannot_be_sent_leaves_its_text() -> None:
    """The traceback says what happened."""
    description = {"text": "Traceback ...\nOdd: 7\n", "pickle": None, "parts": None}

    error = load_outcome(formats.EXCEPTION, dump(description)).exception

    assert isinstance(error, OutcomeNotReadable)
    assert error.text == description["text"]
    assert "Odd: 7" in str(error)


def test_pickle_that_is_no_exception_falls_back_to_its_parts() -> None:
    """A reducer may return anything."""
    parts = dump((ValueError, ("text",), {"seed": 7}, None))
    description = {"text": "...", "pickle": dump(7), "parts": parts}

    error = load_outcome(formats.EXCEPTION, dump(description)).exception

    assert isinstance(error, ValueError)
    assert vars(error) == {"seed": 7}


def raise_silently() -> None:
    """Raise what cannot be formatted."""
    raise Silent


class Hostile:
    """Raises on loading something that cannot be formatted."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Call a function that raises."""
        return raise_silently, ()


@pytest.mark.parametrize("kind", [formats.VALUE, formats.EXCEPTION, 99])
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage",
        b"cno_such_module\nName\n.",
        pickle.dumps(Hostile()),
        pickle.dumps({"text": "only"}),
        pickle.dumps({"text": 7, "pickle": b"x", "parts": None}),
        b"(cbuiltins\nexit\nI3\no.",
    ],
    ids=range(7),
)
def test_loading_an_outcome_never_raises(kind: int, payload: bytes) -> None:
    """In the poller an exception would harm other jobs."""
    outcome = load_outcome(kind, payload)

    if kind != formats.VALUE:
        assert isinstance(outcome.exception, OutcomeNotReadable)


def test_value_that_cannot_be_loaded_here_says_so() -> None:
    """The module of its class may be on the nodes only."""
    outcome = load_outcome(formats.VALUE, b"cno_such_module\nName\n.")

    assert isinstance(outcome.exception, OutcomeNotReadable)
    assert "No module named 'no_such_module'" in str(outcome.exception)
    assert isinstance(outcome.exception.__cause__, ModuleNotFoundError)


class _Proxy:
    """Stands for something that is not there now."""

    def __call__(self) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> Any:
        """Fail as a proxy of a web framework does outside of a request."""
        raise RuntimeError(f"there is no request with a {name}")


class _Callable:
    def __call__(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (make_call, "make_call"),
        (functools.partial(make_call, 1), "make_call"),
        (_Callable(), "_Callable"),
        ("".join, "join"),
        (_Proxy(), "_Proxy"),
    ],
    ids=["function", "partial", "object", "method", "proxy"],
)
def test_function_has_a_name_for_people(function: Any, name: str) -> None:
    """It becomes the name of the jobs."""
    assert function_name(function) == name


def test_nothing_is_left_of_calls_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes later needs the room."""

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_calls(tmp_path / "calls.pkl", [[make_call(1)]], CONTEXT)

    assert list(tmp_path.iterdir()) == []
