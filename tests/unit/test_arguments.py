"""What the constructor refuses, before there is a file or a thread."""

import math
import re
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import OptionError, Retries, SlurmExecutor, SlurmScheduler
from slurm_futures.runs.script import python_words

_TIMES = ["idle_timeout", "poll_interval", "grace", "pending_timeout"]


@pytest.mark.parametrize("name", _TIMES)
@pytest.mark.parametrize("value", ["1:00", -1, math.nan, True, [5]])
def test_times_are_seconds(name: str, value: object, tmp_path: Path) -> None:
    """The error says what to write, and nothing is left behind."""
    options: dict[str, Any] = {name: value}

    with pytest.raises(OptionError, match=f"Write it like {name}=30"):
        SlurmExecutor(scheduler="local", directory=tmp_path / "runs", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["idle_timeout", "grace"])
def test_these_times_cannot_be_none(name: str, tmp_path: Path) -> None:
    """There is no "for ever" but infinity, which says so."""
    options: dict[str, Any] = {name: None}

    with pytest.raises(OptionError, match=f"{name}=None is not a number of seconds"):
        SlurmExecutor(scheduler="local", directory=tmp_path, **options)


def test_times_may_be_infinite(tmp_path: Path) -> None:
    """But for the one between two queries."""
    for_ever = math.inf
    with SlurmExecutor(
        scheduler="local",
        directory=tmp_path,
        idle_timeout=for_ever,
        grace=for_ever,
        pending_timeout=for_ever,
    ) as executor:
        assert executor.submit(abs, -1).result(60) == 1
    with pytest.raises(
        OptionError, match="poll_interval=inf is not a number of seconds"
    ):
        SlurmExecutor(scheduler="local", directory=tmp_path, poll_interval=for_ever)


def test_words_of_keep_are_named(tmp_path: Path) -> None:
    """A typing error shows the right words."""
    keep: Any = "allways"
    with pytest.raises(OptionError, match='Write keep="failed", "always" or "never"'):
        SlurmExecutor(scheduler="local", directory=tmp_path, keep=keep)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"max_workers": 2.5}, TypeError, id="max_workers=2.5"),
        pytest.param({"max_workers": math.nan}, TypeError, id="max_workers=nan"),
        pytest.param({"initializer": int, "initargs": 5}, TypeError, id="initargs=5"),
        pytest.param(
            {"initializer": int, "initargs": (threading.Lock(),)},
            TypeError,
            id="initargs=lock",
        ),
        pytest.param({"retries": -1}, OptionError, id="retries=-1"),
        pytest.param({"retries": "x"}, OptionError, id="retries=x"),
        pytest.param({"scheduler": 5}, OptionError, id="scheduler=5"),
        pytest.param({"python": []}, OptionError, id="python=[]"),
        pytest.param({"python": ""}, OptionError, id="python=''"),
        pytest.param({"max_workers": True}, TypeError, id="max_workers=True"),
        pytest.param({"max_tasks_per_child": True}, TypeError, id="child=True"),
        pytest.param({"initargs": "abc"}, TypeError, id="initargs=text"),
        pytest.param({"comment": "\ud800"}, OptionError, id="comment=surrogate"),
        pytest.param({"setup": "echo \ud800"}, OptionError, id="setup=surrogate"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    options: dict[str, Any], error: type[Exception], tmp_path: Path
) -> None:
    """In our words, or as ProcessPoolExecutor and pickle do."""
    options = {"scheduler": "local", **options}

    with pytest.raises(error):
        SlurmExecutor(directory=tmp_path / "runs", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retries": 1.5}, "Write retries=2, or retries={NodeFailed: 5}."),
        ({"retries": True}, "Write retries=2"),
        ({"python": "python3 -O"}, "Write python=['python3', '-O']."),
        ({"python": "python3 "}, "Write python=['python3']."),
        ({"python": f"{sys.executable} -O"}, f"python=['{sys.executable}', '-O']"),
        ({"python": ""}, 'Write it as python="..."'),
        ({"python": "~/bin/python"}, "python=os.path.expanduser('~/bin/python')"),
        ({"python": ["~/bin/python", "-O"]}, "os.path.expanduser('~/bin/python')"),
        ({"python": ["python3", 3]}, 'python=["python3", "-O"]'),
        ({"python": None}, 'python="python3"'),
        ({"python": "a\0"}, "cannot be written to a script"),
        ({"setup": 5}, 'setup="module load gcc"'),
        ({"setup": ["", 3]}, 'setup="module load gcc"'),
        ({"setup": {"A": "1"}}, 'setup="module load gcc"'),
        ({"setup": "a\0"}, "cannot be written to a script"),
        ({"directory": 5}, 'Write it as directory="..."'),
        ({"directory": ""}, 'Write it as directory="..."'),
        ({"directory": b"runs"}, 'Write it as directory="..."'),
        ({"directory": "~/runs"}, "directory=os.path.expanduser('~/runs')"),
        ({"template": 5}, 'Write it as template="..."'),
        ({"template": ""}, 'Write it as template="..."'),
        ({"srun": "no"}, "srun='no' is neither True nor False"),
        ({"progress": "no"}, "progress='no' is neither True nor False"),
        ({"scheduler": SlurmScheduler}, "an object: SlurmScheduler()"),
        ({"keep": "Failed"}, 'Write keep="failed"'),
    ],
    ids=str,
)
def test_what_would_mean_something_else_is_refused(
    options: dict[str, Any],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With what to type instead, and before there is a directory."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(OptionError) as caught:
        SlurmExecutor(**{"scheduler": "local", **options})

    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["my python", "/opt/my env/bin/python", "py -O"])
def test_the_path_of_python_may_have_blanks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where such a program is here, or may be on the nodes, or a path says so."""
    program = tmp_path / "my python"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    python = Path(name) if name == "py -O" else name

    assert python_words(python) == (name,)


def test_initargs_may_be_what_there_may_be(tmp_path: Path) -> None:
    """A list, as ProcessPoolExecutor takes it; None, if there is no initializer."""
    for options in ({"initializer": print, "initargs": ["a"]}, {"initargs": None}):
        more: dict[str, Any] = options
        SlurmExecutor(scheduler="local", directory=tmp_path, **more).shutdown()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"chunksize": "Auto"}, TypeError, "chunksize='Auto' must be an integer or"),
        ({"chunksize": True}, TypeError, "chunksize=True must be an integer or"),
        ({"chunksize": 2.0}, TypeError, "chunksize=2.0 must be an integer or"),
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1."),
        ({"buffersize": True}, TypeError, "buffersize must be an integer or None"),
        ({"return_exceptions": "yes"}, TypeError, "return_exceptions='yes' must be"),
        ({"timeout": math.nan}, ValueError, "timeout must be a number of seconds"),
    ],
    ids=str,
)
def test_bad_arguments_of_map_are_refused_by_it(
    options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    """Before an item is taken or a call is submitted."""
    items = iter("ab")
    executor = SlurmExecutor(scheduler="local", directory=tmp_path)

    with pytest.raises(error, match=re.escape(words)):
        executor.map(str, items, **options)

    executor.shutdown()
    assert list(items) == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_factor": math.nan}, "numbers of 1 or more"),
        ({"memory_factor": math.inf}, "numbers of 1 or more"),
        ({"memory_factor": "2"}, "numbers of 1 or more"),
        ({"times": 5}, "is not a mapping"),
    ],
)
def test_bad_retries_are_refused_before_the_first_failure(
    options: dict[str, Any], message: str
) -> None:
    """Not by the poller, when a job has failed."""
    with pytest.raises(OptionError, match=message):
        Retries(**options)


class Unspeakable:
    """A value whose repr fails."""

    def __repr__(self) -> str:
        """Fail."""
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "name",
    """
    grace progress srun keep directory python setup template retries scheduler
    partition mem hold cpus_per_task initargs
    """.split(),
)
def test_a_value_whose_repr_fails_is_refused_like_any_other(
    tmp_path: Path, name: str
) -> None:
    """The error that its repr raises would say nothing of the option."""
    options: dict[str, Any] = {"scheduler": "local", "directory": tmp_path}
    options[name] = Unspeakable()

    with pytest.raises((OptionError, TypeError), match="<Unspeakable>"):
        SlurmExecutor(**options)


def test_a_number_of_seconds_may_be_too_large(tmp_path: Path) -> None:
    """Of which Python makes no float, nor text by itself."""
    for value in 10**400, 10**5000:
        with pytest.raises(OptionError, match="is not a number of seconds"):
            SlurmExecutor(scheduler="local", directory=tmp_path, grace=value)


@pytest.mark.parametrize("name", ["directory", "template", "python"])
def test_a_path_that_no_file_system_knows_is_refused(name: str) -> None:
    """Text may hold what cannot be encoded."""
    options: dict[str, Any] = {name: "/tmp/\ud800"}
    with pytest.raises(OptionError, match="is not a path"):
        SlurmExecutor(scheduler="local", **options)


def test_a_current_directory_that_was_deleted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default directory is relative."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(OptionError, match=r"Call os.chdir\(\) before"):
        SlurmExecutor(scheduler="local")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere", "is a symbolic link to nowhere, which is no directory"),
        ("runs", "is a symbolic link to runs, which is no directory"),
        (None, "runs is a file"),
    ],
    ids=["dangling", "loop", "file"],
)
def test_what_is_in_the_place_of_the_directory_is_told(
    tmp_path: Path, target: str | None, words: str
) -> None:
    """The system says only that the file exists."""
    path = tmp_path / "runs"
    if target is None:
        path.touch()
    else:
        path.symlink_to(target)

    for directory in path, path / "below":
        with pytest.raises(OptionError, match=words):
            SlurmExecutor(scheduler="local", directory=directory)


@pytest.mark.parametrize(
    ("setup", "words"),
    [
        ("echo 'x", "unexpected EOF while looking for matching"),
        ("if true", "syntax error"),
        ("cat <<E", "here-document"),
        ("}", "syntax error near unexpected token `}'"),
        (["true", "a ("], "line 2: syntax error"),
    ],
)
def test_setup_that_bash_cannot_read_is_refused(
    tmp_path: Path, setup: str | list[str], words: str
) -> None:
    """With the words of bash; else the rest of the script would be part of it."""
    with pytest.raises(OptionError, match=re.escape(words)):
        SlurmExecutor(scheduler="local", directory=tmp_path, setup=setup)


def test_setup_is_sent_unread_where_there_is_no_bash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on the nodes only. And a pattern of extglob is no error."""
    setup_that_is_well = ["shopt -s extglob", "ls !(a|b) >/dev/null", "x=$(( 1 + 1 ))"]
    SlurmExecutor(scheduler="local", directory=tmp_path, setup=setup_that_is_well)
    monkeypatch.setenv("PATH", str(tmp_path))
    SlurmExecutor(scheduler="local", directory=tmp_path, setup="echo 'x")


def test_the_local_scheduler_has_no_job_steps(tmp_path: Path) -> None:
    """It ignores srun=True as it does options of sbatch."""
    with SlurmExecutor(scheduler="local", directory=tmp_path, srun=True) as executor:
        assert executor.submit(abs, -1).result(60) == 1
