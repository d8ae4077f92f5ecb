"""The worker: what it does on a node, run here in process and as a program."""

import dataclasses
import errno
import marshal
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from slurm_futures.calls.call import PickledCall, dump_arguments
from slurm_futures.calls.outcome import Outcome, load_outcome
from slurm_futures.calls.pickler import CLOUDPICKLE_VERSION, dump
from slurm_futures.errors import OutcomeNotReadable
from slurm_futures.node import formats, modules, outcomes, patience, values, worker
from slurm_futures.node.outcomes import OutcomesFile
from slurm_futures.runs.calls_file import write_calls
from slurm_futures.runs.run import RunDirectory
from tests.unit.fakes import finished_path, outcomes_of
from tests.waiting import assert_soon

GRACE = 0.2  #: seconds


def pack(position: int, payload: bytes) -> bytes:
    """Return the value of a call as it stands in the file."""
    return formats.pack_outcome(position, formats.VALUE, payload)


class Job:
    """One job: its files, and the calls that it runs."""

    def __init__(self, directory: Path) -> None:
        self.run_directory = RunDirectory.create(directory, "fit").fill()
        submission = self.run_directory.submission(1)
        submission.create(1)
        self.submission_directory = submission
        self.submission = submission.path
        self.directory = submission.job(0).path
        self.finished = submission.finished
        self.final = finished_path(submission, 0)
        self.context: dict[str, Any] = {  # Any: what the client wants to tell
            "cwd": str(submission.path),
            "real_cwd": os.path.realpath(submission.path),
            "exported": True,
            "prefix": sys.prefix,
            "base_prefix": sys.base_prefix,
            "version": sys.version_info[:2],
            "cloudpickle": CLOUDPICKLE_VERSION,
            "initializer": None,
        }
        self.flags: tuple[str, ...] = ()  # of Python
        self.variables: dict[str, str] = {}  # of its environment

    def write(self, *functions: Callable[[], object]) -> None:
        """Write the calls file: each function is called without arguments."""
        calls = [PickledCall(dump(fn), dump_arguments((), {})) for fn in functions]
        write_calls(self.submission / "calls.pkl", [calls], self.context)

    @property
    def words(self) -> list[str]:
        """The arguments of the worker."""
        return [str(self.submission), "0", str(GRACE)]

    def start(self) -> subprocess.Popen[bytes]:
        """Run the worker as the script does."""
        start = self.run_directory.path / "start.py"
        environment = {**os.environ, **self.variables}
        environment.pop("PYTHONUNBUFFERED", None)
        command = [sys.executable, *self.flags, str(start), *self.words]
        return subprocess.Popen(command, env=environment)

    def run(self) -> str:
        """Run the worker to its end; return what it printed."""
        with self.start() as process:
            process.wait(60)
        return "".join(
            self.directory.joinpath(name).read_text() for name in ("stdout", "stderr")
        )

    def outcomes(self) -> list[Outcome]:
        """Return what the calls have left when they were over."""
        records = outcomes_of(self.finished.read(0))
        return [load_outcome(*each[1:]) for each in records]

    def names(self) -> list[str]:
        """Return the names of the files with outcomes."""
        return os.listdir(self.final.parent)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Give a job without calls."""
    return Job(tmp_path)


@pytest.fixture
def as_on_a_node(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what the worker does to its own process."""
    path, argv, cwd = list(sys.path), list(sys.argv), Path.cwd()
    streams = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    handlers = {
        each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGQUIT)
    }
    monkeypatch.setattr(patience, "grace", 0.0)
    for name in ("foreign_version", "main_of_calls", "main_of_job"):
        monkeypatch.setattr(modules, name, None)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setenv("PWD", str(cwd))
    yield
    sys.path[:], sys.argv[:] = path, argv
    os.chdir(cwd)
    for descriptor, saved in streams.items():
        os.dup2(saved, descriptor)
        os.close(saved)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("as_on_a_node")
def test_worker_leaves_outcomes(job: Job) -> None:
    """In the order of the calls; the name says that all is there."""
    job.write(lambda: 1, lambda: "two")

    exit_code = worker.main(*job.words)

    assert exit_code == 0
    assert [outcome.value for outcome in job.outcomes()] == [1, "two"]
    assert job.names() == ["0"]


@pytest.mark.usefixtures("as_on_a_node")
def test_job_directory_tells_where_the_job_began(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host, job and attempt."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    job.write(lambda: 1)

    worker.main(*job.words)

    started = formats.read_mark(job.directory / "started")
    assert started == f"{os.uname().nodename} 77 2"


@pytest.mark.usefixtures("as_on_a_node")
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_calls_that_others_may_have_written_are_not_unpickled(
    job: Job, mode: int
) -> None:
    """The library lets nobody else write to them, whatever the umask."""
    before = os.umask(0)
    try:
        job.write(lambda: 1)
    finally:
        os.umask(before)
    file = job.submission / "calls.pkl"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(mode)

    assert worker.main(*job.words) == 1

    death = job.submission_directory.read_death(0)
    assert death is not None
    assert (death.error, death.failed) == (errno.EACCES, formats.NOT_READ)


@pytest.mark.usefixtures("as_on_a_node")
def plant(path: Path, proof: Path, how: str) -> None:
    """Put a program that creates a file where a job may look for its modules."""
    program = f"open({str(proof)!r}, 'w')"
    if how == "bundle":
        loader = marshal.dumps(compile(program, "loader.py", "exec"))
        path.write_bytes(MAGIC_NUMBER + marshal.dumps({"loader": loader}))
    elif how == "source":
        path.write_text(program)
    else:
        status = path.stat()
        code = compile(program, str(path), "exec")
        path = Path(cache_from_source(path))
        path.parent.mkdir(exist_ok=True)
        times = int(status.st_mtime).to_bytes(4, "little")
        sizes = status.st_size.to_bytes(4, "little")
        head = MAGIC_NUMBER + bytes(4) + times + sizes
        path.write_bytes(head + marshal.dumps(code))
    path.chmod(0o666)


@pytest.mark.parametrize(
    ("name", "how", "runs"),
    [
        ("node.bundle", "bundle", True),  # from the sources
        ("loader.py", "source", False),
        ("worker.py", "source", False),
        ("worker.py", "cached", True),
    ],
)
def test_programs_that_others_may_have_written_are_not_executed(
    job: Job, tmp_path: Path, name: str, how: str, runs: bool
) -> None:
    """Whichever of them a job comes across."""
    run = job.run_directory.path
    job.write(os.getpid)
    if name != "node.bundle":
        (run / "node.bundle").write_bytes(b"of another Python")
    plant(run / name, tmp_path / "pwned", how)

    with job.start() as process:
        exit_code = process.wait(60)

    assert not (tmp_path / "pwned").exists()
    assert (exit_code == 0) == runs


def test_call_that_raises_does_not_stop_the_others(job: Job) -> None:
    """But the job counts as failed, for Slurm and for people."""
    job.write(lambda: 1 / 0, lambda: 2)

    exit_code = worker.main(*job.words)

    first, second = job.outcomes()
    assert exit_code == 1
    assert isinstance(first.exception, ZeroDivisionError)
    assert second.value == 2


@pytest.mark.parametrize("cls", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.usefixtures("as_on_a_node")
def test_any_exception_of_a_call_is_its_outcome(
    job: Job, cls: type[BaseException]
) -> None:
    """Also those that would end a program."""

    def leave() -> None:
        raise cls("out")

    job.write(leave)

    worker.main(*job.words)

    assert type(job.outcomes()[0].exception) is cls


@pytest.mark.usefixtures("as_on_a_node")
def test_value_that_cannot_be_pickled_is_an_error_with_advice(job: Job) -> None:
    """The call has run in vain; the user learns what to return instead."""
    job.write(lambda: (number for number in range(3)))

    worker.main(*job.words)

    error = job.outcomes()[0].exception
    assert isinstance(error, TypeError)
    assert "Return plain data" in str(error.__cause__)


def test_function_that_a_call_returns_keeps_its_file() -> None:
    """A traceback of it shows the line of the program, in the client as well."""
    number = 0
    function = pickle.loads(values.dump(lambda: 1 / number))

    assert function.__code__.co_filename == __file__
    with pytest.raises(ZeroDivisionError) as raised:
        function()
    text = "".join(traceback.format_exception(raised.value))
    assert "pickle.loads(values.dump(lambda: 1 / number))" in text


def test_open_file_is_no_value(tmp_path: Path) -> None:
    """A copy of what is in it would be no file."""
    words = r"an open file .*log\.txt"
    path = tmp_path / "log.txt"
    with path.open("a+") as file, pytest.raises(TypeError, match=words):
        values.dump([file, lambda: 1])


class Unloadable:
    """Pickles well, and raises where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Call int() with nonsense on loading."""
        return int, ("nonsense",)


@pytest.mark.usefixtures("as_on_a_node")
def test_value_is_not_unpickled_on_the_node(job: Job) -> None:
    """What it needs may be in the program only, which says so if it is not."""
    job.write(Unloadable)

    worker.main(*job.words)

    assert isinstance(job.outcomes()[0].exception, OutcomeNotReadable)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses attributes, and so `add_note`."""

    code: int = 0


class FrozenUnpicklable:
    """Raises such an exception where it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Fail."""
        raise Frozen(7)


@pytest.mark.usefixtures("as_on_a_node")
def test_exception_that_refuses_notes_is_an_outcome(job: Job) -> None:
    """And has its note all the same."""
    job.write(FrozenUnpicklable, lambda: "next")

    worker.main(*job.words)

    error, value = job.outcomes()
    assert error.exception == Frozen(7)
    assert "Return plain data" in str(error.exception.__cause__)
    assert value.value == "next"


@pytest.mark.usefixtures("as_on_a_node")
def test_call_that_cannot_be_loaded_says_where_modules_were_looked_for(
    job: Job,
) -> None:
    """The usual mistake: a module that the node does not have."""
    call = PickledCall(b"cno_such_module\nfn\n.", dump_arguments((), {}))
    write_calls(job.submission / "calls.pkl", [[call]], job.context)

    worker.main(*job.words)

    error = job.outcomes()[0].exception
    assert isinstance(error, ModuleNotFoundError)
    assert "The job looked for modules in" in str(error.__cause__)


def test_context_of_the_client_is_entered(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directory, arguments and module path are those of the client."""
    monkeypatch.setattr(sys, "path", [*sys.path, "/of/the/client"])
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--fast"])

    def look() -> tuple[str, list[str], str]:
        return str(Path.cwd()), sys.argv, sys.path[-1]

    job.write(look)

    job.run()

    expected = (str(job.submission), ["sweep.py", "--fast"], "/of/the/client")
    assert job.outcomes()[0].value == expected


@pytest.mark.usefixtures("as_on_a_node")
def test_no_call_begins_elsewhere_than_in_the_directory_of_the_client(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files would be lost with the run; the mark says where it cannot go."""
    monkeypatch.setattr(modules, "_PAUSES", (0.01,))
    job.context |= {"cwd": "/no/such/link", "real_cwd": "/no/such/directory"}
    job.write((tmp_path / "begun").touch)

    exit_code = worker.main(*job.words)

    death = job.submission_directory.read_death(0)
    assert exit_code == 1
    assert job.names() == ["0.died"]
    assert not (tmp_path / "begun").exists()
    assert death is not None
    assert death.words == (
        f"Node {os.uname().nodename} cannot enter the directory in which the call was "
        "submitted, /no/such/link (No such file or directory).\n"
        "Submit it in a directory that the nodes share: call os.chdir() before."
    )


@pytest.mark.usefixtures("as_on_a_node")
@pytest.mark.parametrize("link", ["right", "missing", "elsewhere"])
def test_directory_is_entered_by_a_name_that_means_it_here(
    link: str, tmp_path: Path
) -> None:
    """That of the client, if it is the same directory; $PWD is this name."""
    real = tmp_path / "real"
    name = tmp_path / "link"
    (tmp_path / "other").mkdir()
    real.mkdir()
    if link != "missing":
        name.symlink_to(real if link == "right" else tmp_path / "other")

    modules.enter_directory(str(name), str(real))

    assert Path.cwd() == real
    assert os.environ["PWD"] == str(name if link == "right" else real)


@pytest.mark.usefixtures("as_on_a_node")
def test_name_of_the_client_is_enough(tmp_path: Path) -> None:
    """The node need not know what the client's link leads to."""
    modules.enter_directory(str(tmp_path), "/physical/of/the/client")

    assert Path.cwd() == tmp_path


@pytest.mark.usefixtures("as_on_a_node")
def test_directory_may_take_a_while_to_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an automounter lets it."""
    late = tmp_path / "late"
    monkeypatch.setattr("time.sleep", lambda _: late.mkdir())

    modules.enter_directory(str(late), str(late))

    assert Path.cwd() == late


@pytest.mark.usefixtures("as_on_a_node")
def test_another_python_keeps_its_own_modules(job: Job) -> None:
    """What belongs to the installation of the client is of no use to it."""
    job.context |= {"prefix": "/opt/other", "base_prefix": "/usr/other"}
    path = [
        "/home/me/project",
        "/opt/other/lib/site-packages",
        "/usr/other/lib",
        "/opt/other_project",
        "/opt/other",
    ]

    modules.enter_context(job.context)
    found = modules.path_here(path)

    own = modules._start_path
    assert found == ["/home/me/project", "/opt/other_project", *own]


def test_functions_of_another_python_are_refused(job: Job) -> None:
    """Their code might crash this one; those that can be imported work."""
    job.context["version"] = (3, 2)
    job.write(lambda: 1, os.getpid)

    job.run()

    by_value, imported = job.outcomes()
    assert isinstance(by_value.exception, RuntimeError)
    assert "The program runs on Python 3.2, the job on Python 3." in str(
        by_value.exception
    )
    assert imported.value > 0


@pytest.mark.usefixtures("as_on_a_node")
def test_functions_for_another_python_are_not_sent(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client might crash as well."""
    monkeypatch.setattr(modules, "foreign_version", (3, 2))

    with pytest.raises(RuntimeError, match=r"The program runs on Python 3\.2"):
        values.dump(lambda: 1)

    assert pickle.loads(values.dump(os.getpid)) is os.getpid


@pytest.mark.usefixtures("as_on_a_node")
def test_initializer_runs_once_before_the_calls(job: Job) -> None:
    """As in each worker of a ProcessPoolExecutor."""

    def prepare(name: str) -> None:
        with Path("seen").open("a") as file:
            file.write(name)

    job.context["initializer"] = dump((prepare, ("once",)))
    job.write(lambda: Path("seen").read_text(), lambda: Path("seen").read_text())

    worker.main(*job.words)

    assert [outcome.value for outcome in job.outcomes()] == ["once", "once"]


@pytest.mark.parametrize("cls", [ValueError, SystemExit])
@pytest.mark.usefixtures("as_on_a_node")
def test_failed_initializer_is_the_only_outcome(
    job: Job, cls: type[BaseException]
) -> None:
    """No call runs without it."""

    def fail() -> None:
        raise cls("no licence")

    job.context["initializer"] = dump((fail, ()))
    job.write(lambda: 1)

    exit_code = worker.main(*job.words)

    (outcome,) = job.outcomes()
    assert exit_code == 1
    assert outcome.initializer_failed
    assert type(outcome.exception) is cls


def test_killed_worker_leaves_the_outcomes_of_the_calls_before(job: Job) -> None:
    """Under the name of its attempt."""
    job.write(lambda: "kept", lambda: os.kill(os.getpid(), signal.SIGKILL))

    with job.start() as process:
        process.wait(60)

    (name,) = job.names()
    ((_, kind, payload),) = outcomes_of(job.finished.read_left(0))
    assert process.returncode == -signal.SIGKILL
    assert name == f"0.0-{os.uname().nodename}-{process.pid}"
    assert load_outcome(kind, payload).value == "kept"


@pytest.mark.usefixtures("as_on_a_node")
def test_mark_tells_how_many_calls_have_no_value(job: Job) -> None:
    """A listing is enough to know how a thousand jobs ended."""
    job.write(lambda: 1, lambda: 1 / 0, lambda: 2)

    worker.main(*job.words)

    assert sorted(job.names()) == ["0", "0.raised-1"]


@pytest.mark.usefixtures("as_on_a_node")
def test_later_attempt_takes_back_the_mark_of_an_earlier_one(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which was killed before it could publish, say."""
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    job.write(lambda: 1)
    formats.leave_mark(f"{job.final}.raised-1", "")

    worker.main(*job.words)

    assert job.names() == ["0"]


def test_mark_that_cannot_be_left_costs_no_outcome(job: Job) -> None:
    """It only spares a look into the file."""
    file = OutcomesFile(str(job.submission), 0, "0-c17-99")
    file.append(0, formats.EXCEPTION, b"")

    with mock.patch.object(outcomes, "leave_mark", side_effect=OSError):
        file.publish(sync=True)

    assert job.names() == ["0"]


def test_later_of_two_attempts_stays(job: Job) -> None:
    """A job that was requeued may run while its first attempt lives on."""
    first, second = (OutcomesFile(str(job.submission), 0, each) for each in "ab")
    first.append(0, formats.VALUE, dump("first"))
    second.append(0, formats.VALUE, dump("second"))

    first.publish(sync=True)
    assert [outcome.value for outcome in job.outcomes()] == ["first"]
    second.publish(sync=True)

    assert [outcome.value for outcome in job.outcomes()] == ["second"]
    assert job.names() == ["0"]


@pytest.mark.usefixtures("as_on_a_node")
def test_requeued_job_whose_calls_are_done_runs_none(job: Job) -> None:
    """Also where Slurm does not say that it has run before."""
    job.write(lambda: "once")
    assert worker.main(*job.words) == 0
    before = job.final.stat()

    assert worker.main(*job.words) == 0

    assert job.final.stat() == before


@pytest.mark.usefixtures("as_on_a_node")
@pytest.mark.parametrize("restored", [False, True])
def test_job_that_is_withdrawn_begins_no_more_calls(
    job: Job, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    """The rest runs elsewhere, also if the client takes the job back a bit late."""
    monkeypatch.setattr(outcomes, "LOOK_INTERVAL", 0)
    append = OutcomesFile.append

    def restore_and_append(file: OutcomesFile, *record: Any) -> None:
        if record[1] == formats.NOT_BEGUN and restored:
            job.finished.restore(0)
        append(file, *record)

    def withdraw() -> str:
        assert job.finished.withdraw(0)
        return "last"

    monkeypatch.setattr(OutcomesFile, "append", restore_and_append)
    job.write(lambda: "first", withdraw, lambda: "never")

    assert worker.main(*job.words) == 1

    *ended, rest = outcomes_of(job.finished.read_left(0))
    assert [load_outcome(*each[1:]).value for each in ended] == ["first", "last"]
    assert rest == (2, formats.NOT_BEGUN, b"")
    assert job.final.exists() == restored


def test_job_that_is_withdrawn_in_its_last_call_publishes_nothing(job: Job) -> None:
    """Its calls may run elsewhere by then; what it has left can still be read."""
    file = OutcomesFile(str(job.submission), 0, "0-c17-99")
    file.append(0, formats.VALUE, dump("late"))
    job.finished.withdraw(0)

    assert not file.publish(sync=True)

    assert job.names() == ["0.0-c17-99.withdrawn"]
    assert [each[2] for each in job.finished.read_left(0)] == [dump("late")]


def test_outcomes_whose_rename_was_sent_twice_are_published(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS says that the file is not there, when it lost the first answer."""
    rename = os.rename

    def send_twice(source: str, target: str) -> None:
        rename(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", send_twice)
    assert OutcomesFile(str(job.submission), 0, "0-c17-99").publish(sync=True)


def test_outcomes_whose_directory_is_gone_are_not_wanted(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client has cleaned up; nothing is said about it."""
    monkeypatch.setattr(outcomes, "LOOK_INTERVAL", 0)
    kept, dropped = (OutcomesFile(str(job.submission), 0, each) for each in "ab")
    shutil.rmtree(job.submission)

    assert not kept.are_wanted()
    assert not kept.publish(sync=True)
    dropped.drop()


def test_outcomes_of_another_attempt_are_not_taken_for_published(job: Job) -> None:
    """The one before the requeue was withdrawn, the one after it has ended."""
    first, second = (OutcomesFile(str(job.submission), 0, each) for each in "ab")
    Path(f"{job.final}.a").rename(f"{job.final}.a.withdrawn")
    assert second.publish(sync=True)

    assert not first.publish(sync=True)


def test_note_is_added_whatever_the_class_of_the_exception() -> None:
    """A frozen dataclass refuses every assignment."""

    @dataclasses.dataclass(frozen=True)
    class Frozen(Exception):
        code: int

    error = Frozen(7)
    values.add_note(error, "one")
    values.add_note(error, "two")

    assert error.__notes__ == ["one", "two"]


def test_notes_that_are_no_list_are_let_be() -> None:
    """The exception counts, not what could be added."""
    error = ValueError()
    error.__notes__ = 7  # type: ignore[assignment]  # whatever a class may do

    values.add_note(error, "text")

    assert error.__notes__ == 7  # type: ignore[comparison-overlap]  # see above


def test_mark_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    """That of an attempt before a requeue."""
    for text in ("n1 7 0", "n2 7 1"):
        formats.leave_mark(str(tmp_path / "started"), text)

    assert formats.read_mark(tmp_path / "started") == "n2 7 1"


def test_file_system_without_symbolic_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a mark is a small file."""

    def fail(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", fail)

    formats.leave_mark(str(tmp_path / "7"), "0")

    assert formats.read_mark(tmp_path / "7") == "0"


def test_sigint_reaches_the_call(job: Job) -> None:
    """Bash starts background processes with SIGINT ignored; that is undone."""

    def wait() -> None:
        Path("started").touch()
        signal.pause()

    job.write(wait)
    with job.start() as process:
        assert_soon(lambda: job.submission.joinpath("started").exists())
        process.send_signal(signal.SIGINT)
        process.wait(60)

    assert isinstance(job.outcomes()[0].exception, KeyboardInterrupt)


def test_child_that_a_call_forks_leaves_no_outcomes(job: Job) -> None:
    """It comes back from the call as well, and must not speak for the job."""

    def fork() -> int:
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        return pid

    job.write(fork)

    job.run()

    (outcome,) = job.outcomes()
    assert outcome.value > 0


def test_calls_file_that_is_incomplete_ends_the_job(job: Job) -> None:
    """With a traceback in its stderr; the script leaves a mark."""
    job.write(lambda: 1)
    path = job.submission / "calls.pkl"
    path.write_bytes(path.read_bytes()[:-3])

    printed = job.run()

    assert "calls.pkl is incomplete" in printed
    assert not job.final.exists()


def test_what_calls_print_comes_before_their_outcome(job: Job) -> None:
    """Nothing is lost in a buffer when the job is killed later."""

    def speak() -> None:
        print("half a word", end="")

    job.write(speak, lambda: os._exit(3))

    assert job.run() == "half a word"


def test_what_calls_print_is_there_while_they_run(job: Job) -> None:
    """Line by line; the last words of a process that is killed as well."""

    def speak() -> None:
        print("last words")
        os.kill(os.getpid(), signal.SIGKILL)

    job.write(speak)

    assert job.run() == "last words\n"


@pytest.mark.usefixtures("as_on_a_node")
def test_call_may_close_its_stdout(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its value comes back."""

    class Closed:
        def flush(self) -> None:
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(sys, "stdout", Closed())
    job.write(lambda: 3)

    worker.main(*job.words)

    assert job.outcomes()[0].value == 3


def test_standard_files_that_a_call_closes_are_open_for_the_next(job: Job) -> None:
    """No other file gets their numbers, and child processes have them as well."""

    def close() -> None:
        for descriptor in (0, 1, 2):
            os.close(descriptor)

    def look() -> list[str]:
        assert all(map(os.get_inheritable, range(3)))
        os.write(2, b"heard")
        return [os.readlink(f"/proc/self/fd/{each}") for each in range(3)]  # noqa: PTH115

    job.context["initializer"] = dump((close, ()))
    job.write(look, close, look)

    printed = job.run()

    files = ["/dev/null", *(str(job.directory / name) for name in ("stdout", "stderr"))]
    assert [outcome.value for outcome in job.outcomes()] == [files, None, files]
    assert printed == "heardheard"


def test_start_imports_little(job: Job) -> None:
    """And what it stands in for is as ever for the calls."""

    def look() -> tuple[set[str], int]:
        import sys

        loaded = set(sys.modules)
        import functools

        return loaded, functools.reduce(lambda a, b: a * b, [2, 3, 7])

    job.write(look)
    with job.start() as process:
        assert process.wait(60) == 0

    ((loaded, product),) = [outcome.value for outcome in job.outcomes()]
    started = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"cloudpickle", "collections", "enum", "functools", "pathlib", "typing"}
    assert heavy & loaded <= set(started)
    assert product == 42


@pytest.mark.parametrize("flag", ["-P", "-I", "PYTHONSAFEPATH"])
def test_python_may_be_started_safely(
    job: Job, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the directory of the script in its path, which the job never needs."""
    if flag.startswith("-"):
        job.flags = (flag,)
    else:
        job.variables = {flag: "1"}
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    job.write(lambda: (sys.path, math.sqrt(4)))

    job.run()

    assert job.outcomes()[0].value == ([*dict.fromkeys(sys.path)], 2)


def test_run_may_lie_behind_a_symbolic_link(tmp_path: Path) -> None:
    """As home directories do; Python resolves it in its path."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    job = Job(tmp_path / "link")
    # Another installation keeps the path with which Python has started.
    job.context |= {"prefix": "/opt/other", "base_prefix": "/usr/other"}
    job.write(lambda: sys.path)

    job.run()

    path = job.outcomes()[0].value
    assert [entry for entry in path if str(tmp_path / "real") in entry] == []


def test_modules_of_the_client_do_not_hide_those_that_the_job_needs(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the program has put first in its path late, when it had them already."""
    for name in ("types", "traceback", "cloudpickle", "typing", "copyreg"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('hidden')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    class Local:
        def fail(self) -> None:
            raise ValueError(sys.path[0])

    job.write(lambda: 5, Local().fail)

    job.run()

    by_value, failed = job.outcomes()
    assert by_value.value == 5
    assert repr(failed.exception) == repr(ValueError(str(tmp_path)))


@pytest.mark.parametrize("foreign", [False, True])
def test_cache_of_compiled_files_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: bool
) -> None:
    """With PYTHONPYCACHEPREFIX, here and on the node: our files go with the run."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(sys, "pycache_prefix", str(cache))
    job = Job(tmp_path / "runs")
    job.variables = {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONDONTWRITEBYTECODE": ""}
    job.write(lambda: sys.pycache_prefix)
    if foreign:  # as for another release of Python
        (job.run_directory.path / "node.bundle").write_bytes(b"of another one")

    job.run()

    compiled = [path.name for path in cache.rglob("*.pyc") if "runs" in path.parts]
    assert compiled == []
    assert job.outcomes()[0].value == str(cache)
    here = {path.name for path in job.run_directory.path.glob("__pycache__/*")}
    assert (f"worker.{sys.implementation.cache_tag}.pyc" in here) == foreign


def make_leaver(path: Path, module: str) -> Callable[[], None]:
    """Return a call that leaves an object which tells when it is deleted."""
    name = str(path)

    def leave() -> None:
        import os
        import sys

        __import__(module)

        class Object:
            make = staticmethod(os.mkdir)  # names of modules are gone by then

            def __del__(self) -> None:
                self.make(name)

        sys.modules["__main__"].left = Object()  # type: ignore[attr-defined]

    return leave


@pytest.mark.parametrize(
    ("module", "expected"),
    [("json", False), ("_ctypes", True), ("numpy", True)],
    ids=["pure Python", "ctypes", "compiled"],
)
def test_python_is_torn_down_where_it_may_matter(
    job: Job, module: str, expected: bool
) -> None:
    """Libraries in C may have output of their own; else the process ends at once."""
    deleted = job.submission.parent / "deleted"
    job.write(make_leaver(deleted, module))

    with job.start() as process:
        assert process.wait(60) == 0

    assert deleted.exists() == expected


def make_writer(kind: str, path: Path) -> Callable[[], None]:
    """Return a call that leaves something by which the text is written later."""
    name = str(path)

    def write() -> None:
        with open(name, "w") as file:  # noqa: PTH123
            file.write("text")

    def open_file() -> None:
        import sys

        file = open(name, "w")  # noqa: PTH123, SIM115
        file.write("text")
        sys.modules["__main__"].file = file  # type: ignore[attr-defined]

    def register_exit() -> None:
        import atexit

        atexit.register(write)

    def start_thread() -> None:
        import threading

        def write_late() -> None:
            threading.main_thread().join()
            write()

        threading.Thread(target=write_late).start()

    return {"file": open_file, "exit": register_exit, "thread": start_thread}[kind]


@pytest.mark.parametrize("kind", ["file", "exit", "thread"])
def test_what_calls_leave_behind_ends_as_in_any_process(job: Job, kind: str) -> None:
    """Files are written, exit functions are called, threads are waited for."""
    path = job.submission.parent / "file"
    job.write(make_writer(kind, path))

    with job.start() as process:
        assert process.wait(60) == 0

    assert path.read_text() == "text"


@pytest.mark.parametrize("cut", [1, 10, formats.OUTCOME_HEADER.size])
def test_record_that_is_cut_short_is_not_there_yet(cut: int) -> None:
    """The ones before it are."""
    whole = pack(0, dump("kept")) + pack(1, dump("cut"))

    found = list(formats.read_outcomes(whole[: len(pack(0, dump("kept"))) + cut]))

    assert [(position, pickle.loads(blob)) for position, _, blob in found] == [
        (0, "kept")
    ]


def test_record_with_a_wrong_checksum_ends_the_file() -> None:
    """Blocks that have not arrived yet may be zeros."""
    content = pack(0, b"abc")

    assert list(formats.read_outcomes(content[:-1] + b"\0")) == []
    assert list(formats.read_outcomes(b"\0" * 100)) == []


@pytest.mark.usefixtures("as_on_a_node")
def test_value_that_does_not_fit_on_the_disk_is_an_error(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written of it makes room for the words that tell of it."""
    write = os.pwrite

    def fill_up(descriptor: int, content: bytes, start: int) -> int:
        if len(content) < 10_000:
            return write(descriptor, content, start)
        if len(content) > 50_000:
            return write(descriptor, content[:50_000], start)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fill_up)
    job.write(lambda: b"x" * 90_000, lambda: "small")

    worker.main(*job.words)

    monkeypatch.undo()
    first, second = job.outcomes()
    assert isinstance(first.exception, OSError)
    assert "could not be written to the directory of the run" in str(
        first.exception.__cause__
    )
    assert second.value == "small"
