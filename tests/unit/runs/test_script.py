"""Options for sbatch, and the script of a submission, also run with bash."""

import enum
import inspect
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_futures.errors import OptionError
from slurm_futures.executor import SlurmExecutor
from slurm_futures.node import formats
from slurm_futures.runs.run import RunDirectory
from slurm_futures.runs.script import ScriptTemplate, python_words, setup_lines
from slurm_futures.runs.submission import Ends
from slurm_futures.schedulers import option_names
from slurm_futures.schedulers.option_names import OWN
from slurm_futures.schedulers.sbatch_options import OptionValue, SbatchOptions
from tests.unit.fakes import finished_path
from tests.waiting import assert_soon


def test_options_are_kept_in_one_order() -> None:
    """Equal options share jobs, however they were written."""
    first = SbatchOptions.check({"mem": "4G", "cpus_per_task": 2, "exclusive": True})
    second = SbatchOptions.check({"exclusive": True, "cpus_per_task": 2, "mem": "4G"})

    assert first == second
    assert first.get("mem") == "4G"
    assert first.get("gres") is None


@pytest.mark.parametrize("value", [None, False])
def test_option_that_is_off_is_not_given(value: OptionValue) -> None:
    """For programs that pass all their settings on."""
    assert SbatchOptions.check({"exclusive": value}) == SbatchOptions()


def test_options_can_be_replaced() -> None:
    """Other options stay; None takes one away."""
    options = SbatchOptions.check({"mem": "4G", "time": "10"})

    changed = options.replace({"mem": "16G", "time": None})

    assert changed == SbatchOptions.check({"mem": "16G"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("memory", "did you mean 'mem'?"),
        ("cpus", "did you mean 'cpus_per_task'?"),
        ("queue", "did you mean 'partition'?"),
        ("t", "did you mean 'time'?"),
        ("timeout_min", "did you mean 'time'?"),
        ("n_jobs", "did you mean 'max_workers'?"),
        ("folder", "did you mean 'directory'?"),
        ("env", "did you mean 'setup'?"),
        ("slurm_partition", "did you mean 'partition'?"),
        ("cpus-per-task", "did you mean 'cpus_per_task'?"),
        ("max_worker", "did you mean 'max_workers'?"),
        ("retries", "Write SlurmExecutor(retries=...)"),
        ("chunksize", "Write executor.map(..., chunksize=...)"),
        ("cpu_per_task", "did you mean 'cpus_per_task'?"),
        ("qqqqqq", "see sbatch(1)"),
    ],
)
def test_unknown_option_is_refused_with_a_hint(name: str, hint: str) -> None:
    """Before any job is submitted."""
    with pytest.raises(OptionError) as caught:
        SbatchOptions.check({name: "1"})

    assert repr(name) in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "name", ["array", "output", "error", "parsable", "wait", "wrap", "chdir"]
)
def test_option_that_the_library_needs_is_refused(name: str) -> None:
    """With what to use instead."""
    with pytest.raises(
        OptionError, match=r"used by slurm_futures itself\. Leave it out"
    ):
        SbatchOptions.check({name: "1"})


@pytest.mark.parametrize(
    "value",
    [["4G"], b"4G", object(), "4G\0", "x" * 200_000],
    ids=["list", "bytes", "object", "NUL", "long"],
)
def test_value_that_is_no_text_or_number_is_refused(value: OptionValue) -> None:
    """As no command line can hold it."""
    with pytest.raises(OptionError, match="'mem'"):
        SbatchOptions.check({"mem": value})


@pytest.mark.parametrize(
    "options",
    [
        *({"time": each} for each in ["", "1x", "1:", "nan", " 30", -5, 1.5]),
        *({"time": each} for each in [timedelta(-1), timedelta(seconds=-5)]),
        *({"mem": each} for each in ["", "lots", -1, "4 G", "4.5G", "4GiB", "G"]),
        *({"mem_per_cpu": each} for each in [math.nan, math.inf]),
        *({"signal": each} for each in ["", "B:FOO@60", "X:USR1", "USR1@x", "10x"]),
        *({"cpus_per_task": each} for each in [0, -1, 2.5, "two", ""]),
        {"nice": math.nan},
        {"tmp": "x"},
    ],
    ids=str,
)
def test_value_that_no_sbatch_reads_is_refused(options: dict[str, OptionValue]) -> None:
    """Times, memory and signals: with an example of what it reads."""
    (name,) = options

    with pytest.raises(OptionError, match=f"Write .*{name}="):
        SbatchOptions.check(options)


@pytest.mark.parametrize(
    "options",
    [
        *({"time": each} for each in [0, -1, "5-", "1-2:3:4", "1:30", "Unlimited"]),
        *({"mem": each} for each in [0, "4G", "4gb", "+4T", " 4k"]),
        *(
            {"signal": each}
            for each in [10, "USR1", "RB:SIGusr1@60", "B:10@5", "TERM@"]
        ),
        *({"exclusive": each} for each in [True, "user", "mcs", "topo"]),
        *({"requeue": each} for each in [True, "expedite"]),
        {"cpus_per_task": "2"},
        {"nice": True, "no_kill": "off"},
    ],
    ids=str,
)
def test_value_that_some_sbatch_reads_is_not_refused(
    options: dict[str, OptionValue],
) -> None:
    """Slurm 20.11 to 26.05."""
    assert SbatchOptions.check(options) != SbatchOptions()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cpus_per_task": True}, "wants a value there. Write cpus_per_task="),
        ({"partition": True}, "as in sbatch --partition=..."),
        ({"hold": "yes"}, "Write hold=True, or leave it out"),
        ({"contiguous": 1}, "Write contiguous=True, or leave it out"),
        ({"requeue": "yes"}, "Write requeue=True, or"),
        ({"partition": ""}, "is empty, or has an empty name in it"),
        ({"partition": ["a", ""]}, "or leave it out: partition=None"),
        ({"qos": " "}, "or leave it out: qos=None"),
    ],
)
def test_switches_are_true_and_other_options_are_not(
    options: dict[str, OptionValue], words: str
) -> None:
    """An option without the value that it wants would take the next option for it."""
    with pytest.raises(OptionError, match=re.escape(words)):
        SbatchOptions.check(options)


@pytest.mark.parametrize(
    "options",
    [
        {"requeue": True, "no_requeue": True},
        {"exclusive": "user", "oversubscribe": True},
        {"mem": "4G", "mem_per_cpu": "1G"},
        {"mem_per_cpu": "4G", "mem_per_gpu": "1G"},
        {"core_spec": 1, "thread_spec": 1},
    ],
    ids=str,
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, OptionValue],
) -> None:
    """By the constructor, and by options(), where None takes one away."""
    first, second = sorted(options)
    one = SbatchOptions.check({first: options[first]})

    for check in SbatchOptions.check, one.replace:
        with pytest.raises(OptionError, match=f"in options\\(\\), {first}=None takes"):
            check(options)

    changed = one.replace({**options, first: None})
    assert changed == SbatchOptions.check({second: options[second]})
    assert SbatchOptions.check({**options, second: False}) == one


def test_an_empty_list_is_no_option() -> None:
    """A program may have nothing to exclude."""
    assert SbatchOptions.check({"exclude": [], "gres": ()}) == SbatchOptions()


def test_paths_are_values() -> None:
    """As text."""
    options = SbatchOptions.check({"export_file": Path("/a b")})

    assert options.get("export_file") == "/a b"


class _Part(str, enum.Enum):  # noqa: UP042  (as programs from before 3.11 have it)
    GPU = "gpu"


class _Numpy:
    """An integer of a library."""

    def __index__(self) -> int:
        return 4


def test_values_are_the_text_that_sbatch_gets() -> None:
    """Also those of other classes; equal ones share jobs, others do not."""
    options = SbatchOptions.check(
        {"partition": _Part.GPU, "gpus": _Numpy(), "nice": True, "time": 5}
    )

    assert dict(options.items) == {
        "gpus": "4",
        "partition": "gpu",
        "nice": True,
        "time": "5",
    }
    assert SbatchOptions.check({"nice": 1}) != SbatchOptions.check({"nice": True})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"time": "2h"}, "2:00:00"),
        ({"time": "1d 12h"}, "36:00:00"),
        ({"time": "1.5 hours"}, "1:30:00"),
        ({"time": timedelta(minutes=90, seconds=0.2)}, "1:30:01"),
        ({"time_min": "30min"}, "0:30:00"),
        ({"time": "1-12"}, "1-12"),
        ({"time": 30}, "30"),
        ({"exclude": ["n1", "n2"]}, "n1,n2"),
        ({"gres": ("gpu:1", "disk:5")}, "gpu:1,disk:5"),
        ({"mem": 4000.0}, "4000"),
        ({"mem": 4000}, "4000"),
        ({"ntasks": 1}, "1"),
        ({"nodes": "1-1"}, "1-1"),
        ({"ntasks_per_node": "1"}, "1"),
    ],
)
def test_values_may_be_those_that_people_write(
    options: dict[str, OptionValue], expected: str
) -> None:
    """They become what sbatch reads."""
    ((_, value),) = SbatchOptions.check(options).items

    assert value == expected


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"mem": 4e9}, 'Write mem="4G"'),
        ({"mem_per_cpu": 2_000_000_000}, 'Write mem_per_cpu="2G"'),
        ({"constraint": ["a", "b"]}, 'as one text: constraint="..."'),
        ({"exclude": [1, 2]}, "as one text"),
        ({"comment": timedelta(1)}, "as text or number"),
        ({"ntasks": 4}, "Write cpus_per_task=4"),
        ({"ntasks_per_node": "2"}, "Write cpus_per_task=2"),
        ({"ntasks_per_core": 2}, "cpus_per_task"),
        ({"nodes": 2}, "Leave it out"),
        ({"nodes": "1-2"}, "Leave it out"),
        ({"nodes": "1k"}, "Leave it out"),
        ({"ntasks_per_gpu": 1, "gpus": 2}, "Write gpus=2 alone"),
        ({"gpus_per_task": 1, "gpus": "a100:4"}, "Write gpus=a100:4 alone"),
    ],
)
def test_values_that_sbatch_would_take_for_others_are_refused(
    options: dict[str, OptionValue], hint: str
) -> None:
    """With what to write; also in `options()`."""
    with pytest.raises(OptionError) as first:
        SbatchOptions.check(options)
    with pytest.raises(OptionError):
        SbatchOptions.check({}).replace(options)

    assert hint in str(first.value)


@pytest.mark.parametrize(
    "words",
    [["srun", "python3"], ["/opt/mpi/bin/mpirun", "-n", "4", "python3"]],
)
def test_a_command_that_starts_several_processes_is_refused(words: list[str]) -> None:
    """The value would be that of any of them."""
    with pytest.raises(OptionError, match="each of which would run the call"):
        ScriptTemplate(tuple(words)).check()


def test_srun_with_a_single_task_is_a_command_like_any_other() -> None:
    """Its other options are of use."""
    ScriptTemplate(("srun", "--ntasks=1", "--cpu-bind=cores", "python3")).check()


def test_what_people_mean_exists() -> None:
    """A hint leads to a name that is accepted."""
    for typed, meant in option_names._MEANT.items():
        assert option_names.refusal_of(typed) is not None
        assert meant in OWN or option_names.refusal_of(meant) is None


def test_names_of_the_executor_are_known() -> None:
    """So that an error can say where they belong."""
    parameters = inspect.signature(SlurmExecutor).parameters.values()

    keywords = {each.name for each in parameters if each.kind != each.VAR_KEYWORD}
    assert keywords == OWN


def test_python_may_be_a_path_or_words() -> None:
    """A path with blanks stays one word."""
    assert python_words("/opt/my python/bin/python") == ("/opt/my python/bin/python",)
    assert python_words(Path("/bin/python")) == ("/bin/python",)
    assert python_words(["apptainer", "exec"]) == ("apptainer", "exec")


def test_setup_may_be_one_text_or_lines() -> None:
    """Both are what people write."""
    assert setup_lines("module load gcc\nulimit -c 0") == setup_lines(
        ["module load gcc", "ulimit -c 0"]
    )


class Script:
    """A submission on disk, whose script runs a program of the test as its worker."""

    def __init__(
        self,
        directory: Path,
        program: str,
        *,
        array: bool = False,
        setup: tuple[str, ...] = ("echo set up",),
        requeue: bool = False,
    ) -> None:
        self.run_directory = RunDirectory.create(directory, "fit").fill()
        self.submission = self.run_directory.submission(1)
        self.index = 1042 if array else 0
        self.submission.create(self.index + 1)
        self.submission.allow_attempt(1)
        begin = f"import os\nos.makedirs({str(self.job)!r}, exist_ok=True)\n"
        (self.run_directory.path / "start.py").write_text(begin + program)
        template = ScriptTemplate((sys.executable,), setup)
        text = template.render(
            name="fit",
            run=self.run_directory.path,
            submission=self.submission.path,
            block_size=1000,
            array=array,
            requeue=requeue,
        )
        self.submission.script.write_text(text)
        self.log = directory / "log"

    def start(self, attempt: str = "1", **variables: str) -> subprocess.Popen[bytes]:
        """Run it as slurmstepd does."""
        environment = os.environ | {"SLURM_JOB_ID": "77"} | variables
        if self.index:
            environment["SLURM_ARRAY_TASK_ID"] = str(self.index)
        with self.log.open("a") as log:
            return subprocess.Popen(
                ["bash", str(self.submission.script), attempt],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, attempt: str = "1", **variables: str) -> int:
        """Run it to its end; return the exit code."""
        with self.start(attempt, **variables) as process:
            return process.wait(60)

    @property
    def job(self) -> Path:
        """The job directory."""
        return self.submission.job(self.index).path

    @property
    def final(self) -> Path:
        """Where the outcomes of the job appear."""
        return finished_path(self.submission, self.index)


SUCCEED = """
import pathlib, sys
submission, index, _ = sys.argv[1:]
block = {"0": "0-999", "1042": "1000-1999"}[index]
print("running", index, flush=True)
assert pathlib.Path(submission, "jobs", block, index).exists()
pathlib.Path(submission, "finished", block, index).touch()
"""


@pytest.mark.parametrize("array", [False, True], ids=["job", "array task"])
def test_script_runs_setup_and_worker(tmp_path: Path, array: bool) -> None:
    """Which make and find the directories of this job."""
    script = Script(tmp_path, SUCCEED, array=array)

    exit_code = script.run()

    assert exit_code == 0
    assert script.log.read_text() == f"set up\nrunning {script.index}\n"
    assert script.job.exists()
    assert [path.name for path in script.final.parent.iterdir()] == [str(script.index)]


@pytest.mark.parametrize("name", ["", "start.py"])
@pytest.mark.parametrize("mode", [0o720, 0o702], ids=["group", "others"])
def test_what_others_may_have_written_is_not_executed(
    tmp_path: Path, name: str, mode: int
) -> None:
    """Neither where start.py is open to them, nor where the run is."""
    script = Script(tmp_path, SUCCEED)
    (script.run_directory.path / name).chmod(mode)

    exit_code = script.run()

    assert exit_code == 1
    assert not script.job.exists()
    death = script.submission.read_death(0)
    assert death is not None
    assert "others may write to it" in str(death)


FAILING = [
    (["true", "module load nonexistent"], "module load nonexistent", 127),
    (["f() {", "  false", "  return 3", "}", "f one two"], "f one two", 3),
    (["if true; then", "  ls /nonexistent", "fi"], "  ls /nonexistent", 2),
    (["cat /nonexistent | grep -q word"], "cat /nonexistent | grep -q word", 1),
    (["source fails.sh"], "source fails.sh", 4),
    (["( exit 6 )"], "( exit 6 )", 6),
    (["set -euo pipefail", "false"], "false", 1),
    (["set -E", "out=$(echo a; exit 5)"], "out=$(echo a; exit 5)", 5),
]


@pytest.mark.parametrize(
    ("setup", "line", "code"), FAILING, ids=[e[1] for e in FAILING]
)
def test_line_of_setup_that_fails_ends_the_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setup: list[str],
    line: str,
    code: int,
) -> None:
    """The mark quotes it, and what was printed last; no worker begins."""
    monkeypatch.chdir(tmp_path)
    Path("fails.sh").write_text("return 4\n")
    script = Script(tmp_path, SUCCEED, setup=("echo 'some words' >&2", *setup))

    exit_code = script.run(SLURMD_NODENAME="n7")

    death = script.submission.read_death(0)
    assert exit_code == code
    assert not script.job.exists()
    assert death is not None
    words = death.words.split("\n")
    assert (
        words[0] == f"On node n7 a line of setup failed with exit code {code}: {line}"
    )
    assert words[1] == "The log of the job ends with:"
    assert script.log.read_text().splitlines()[-1] in words[2:]
    assert words[-1] == "Correct the line, or add '|| true' if it may fail."


def test_line_of_setup_that_fails_in_silence_has_no_last_words(tmp_path: Path) -> None:
    """There is nothing to quote of the log."""
    script = Script(tmp_path, SUCCEED, setup=("false",))

    script.run(SLURMD_NODENAME="n7")

    death = script.submission.read_death(0)
    assert death is not None
    assert death.words.split("\n") == [
        "On node n7 a line of setup failed with exit code 1: false",
        "Correct the line, or add '|| true' if it may fail.",
    ]


@pytest.mark.parametrize(
    "line", ["exit 0", "exit 3", "false || exit", "source ends.sh"]
)
def test_line_of_setup_that_ends_the_script_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Whatever its exit code; no worker begins."""
    monkeypatch.chdir(tmp_path)
    Path("ends.sh").write_text("exit 4\n")
    script = Script(tmp_path, SUCCEED, setup=("set -a", line))

    script.run(SLURMD_NODENAME="n7")

    death = script.submission.read_death(0)
    assert not script.job.exists()
    assert death is not None
    assert death.words == (
        "On node n7 the lines of setup= ended the script of the job before Python began"
        ".\nTake out what ends it, such as 'exit'; a shell in parentheses may exit."
    )


def test_a_worker_that_dies_is_not_blamed_on_setup(tmp_path: Path) -> None:
    """Once Python begins, nothing is said of it."""
    script = Script(tmp_path, "import os; os._exit(5)")

    assert script.run() == 5

    death = script.submission.read_death(0)
    assert death is not None
    assert death.words == ""


@pytest.mark.parametrize(
    "setup",
    [
        ["false || true"],
        ["[ -d /nonexistent ] && export A=1"],
        ["! true"],
        ["if false; then", "  echo no", "fi"],
        ["f() {", "  false", "  true", "}", "f"],
        ["source copes.sh"],
        ["set -E", "source copes.sh", "out=$(false; echo a)"],
        ["( false; true )"],
        ["false &"],
        ["set +e", "false"],
        ["trap - ERR", "false"],
        ["set -u"],
    ],
    ids=" ; ".join,
)
def test_setup_may_hold_commands_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setup: list[str]
) -> None:
    """Where a shell says so, and within functions and files, as of conda activate."""
    monkeypatch.chdir(tmp_path)
    Path("copes.sh").write_text("false\ngrep -q word /dev/null\ntrue\n")
    script = Script(tmp_path, SUCCEED, setup=tuple(setup))

    exit_code = script.run()

    assert exit_code == 0
    assert script.job.exists()


def test_words_of_a_mark_are_short_lines(tmp_path: Path) -> None:
    """File systems have room for a thousand bytes, and the log may hold anything."""
    line = "printf '\\377%05000d\\r\\n' 7 >&2; false # é" + 1000 * "é"
    script = Script(tmp_path, SUCCEED, setup=(line,))

    script.run()

    death = script.submission.read_death(0)
    assert len(os.fsencode(formats.read_mark(f"{script.final}.died"))) < 1000
    assert death is not None
    assert "\ufffd0000" in death.words
    death.words.encode()


def test_setup_that_slurm_ends_is_not_blamed(tmp_path: Path) -> None:
    """SIGTERM reaches what it runs first; Slurm will say why."""
    script = Script(tmp_path, SUCCEED, setup=("sh -c 'kill -TERM 0; sleep 9'",))

    script.run()

    assert [path.name for path in script.final.parent.iterdir()] == ["0.ending"]


def test_worker_that_exits_without_outcomes_has_died(tmp_path: Path) -> None:
    """The mark tells the exit code at once, however slow squeue is."""
    script = Script(tmp_path, "raise SystemExit(3)")

    exit_code = script.run()

    death = script.submission.read_death(0)
    assert exit_code == 3
    assert death is not None
    assert death.exit_code == 3
    assert [path.name for path in script.final.parent.iterdir()] == ["0.died"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_worker_that_is_killed_has_died(tmp_path: Path, number: int) -> None:
    """The signal is in the exit code, as shells write it."""
    script = Script(tmp_path, f"import os; os.kill(os.getpid(), {number})")

    script.run()

    assert formats.read_mark(f"{script.final}.died") == f"{128 + number} 0"


@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1", "ALRM"])
def test_signal_to_the_process_group_is_named(tmp_path: Path, name: str) -> None:
    """Bash sometimes says -1 of a worker that ends while the signal comes."""
    number = getattr(signal, f"SIG{name}")
    program = f"import os, time; os.killpg(0, {number:d}); time.sleep(9)"
    (kind, text) = ("ending", "") if name == "TERM" else ("died", " 0")
    for attempt in range(8):
        script = Script(tmp_path / str(attempt), program)

        exit_code = script.run()

        assert exit_code == 128 + number
        mark = formats.read_mark(f"{script.final}.{kind}")
        assert mark == f"{128 + number}{text}"


#: Names that people give to variables of their own.
COMMON_NAMES = (
    "run submission index first block finished mark job code again worker signal i name"
).split()


def test_setup_lines_may_use_any_names(tmp_path: Path) -> None:
    """A loop over `index` does not make the job run another one's calls."""
    lines = [f"for {name} in 0 1 2; do :; done" for name in COMMON_NAMES]
    lines += [f"{name}() {{ :; }}" for name in ("leave", "at_exit")]
    script = Script(tmp_path, SUCCEED, array=True, setup=tuple(lines))

    assert script.run() == 0
    assert script.log.read_text() == "running 1042\n"
    assert script.final.exists()


SAY_ENVIRONMENT = "import os; print(*os.environ.items(), sep='\\n')"


def test_environment_of_the_calls_is_that_of_the_user(tmp_path: Path) -> None:
    """None of the script's variables takes the place of one of the user's."""
    names = dict.fromkeys(COMMON_NAMES, "mine")
    # All that the script sets and defines would be exported.
    (tmp_path / "env").write_text("set -a\n")
    script = Script(tmp_path, SAY_ENVIRONMENT)

    script.run(**names, BASH_ENV=str(tmp_path / "env"))

    printed = script.log.read_text()
    assert [name for name in names if f"('{name}', 'mine')" not in printed] == []
    assert "_slurm_futures_" not in printed


@pytest.mark.parametrize("place", ["BASH_ENV", "setup"])
@pytest.mark.parametrize("exit_code", [0, 3])
def test_script_stands_strict_shells(
    tmp_path: Path, place: str, exit_code: int
) -> None:
    """`set -euo pipefail` is what careful people write into their files."""
    (tmp_path / "env").write_text("set -euo pipefail; set -C\n")
    setup = (f". {tmp_path}/env",) if place == "setup" else ()
    program = "raise SystemExit(3)" if exit_code else SUCCEED
    script = Script(tmp_path, program, array=True, setup=setup)

    ended = script.run(**{place: str(tmp_path / "env")})

    death = script.submission.read_death(script.index)
    assert ended == exit_code
    assert (death.exit_code if death else 0) == exit_code


def test_strict_script_passes_signals_on(tmp_path: Path) -> None:
    """A wait that is cut short is no error of the script."""
    script = Script(tmp_path, WAIT, setup=("set -euo pipefail",))
    process = start_waiting(script)

    process.send_signal(signal.SIGUSR1)

    with process:
        process.wait(60)
    assert process.returncode == 42


WAIT = """
import signal, sys
for name in "HUP", "INT", "USR1", "USR2", "ALRM", "XCPU":
    number = getattr(signal, "SIG" + name)
    signal.signal(number, lambda *_: sys.exit(42))
print("waiting", flush=True)
signal.pause()
"""


def start_waiting(script: Script) -> subprocess.Popen[bytes]:
    """Start the script, and wait until it and its worker wait for a signal."""
    process = script.start()
    assert_soon(lambda: "waiting" in script.log.read_text())
    assert_soon(lambda: catches_sigterm(process.pid))
    return process


def catches_sigterm(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM, the last that the script sets."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(mask & 1 << signal.SIGTERM - 1)


def test_job_that_slurm_ends_is_told_apart(tmp_path: Path) -> None:
    """SIGTERM reaches all its processes: how it ended, Slurm says."""
    script = Script(tmp_path, WAIT)
    process = start_waiting(script)

    os.killpg(process.pid, signal.SIGTERM)

    with process:
        process.wait(60)
    assert process.returncode != 0
    assert script.submission.list_ends([formats.block_of(0)]) == Ends(
        set(), set(), set(), {0}
    )


def test_worker_that_hears_of_its_end_before_the_script(tmp_path: Path) -> None:
    """Slurm's SIGTERM reaches one process after the other."""
    script = Script(tmp_path, "import os; os.kill(os.getpid(), 15)")
    with script.start() as process:
        assert_soon(lambda: waits_for_a_sleep(process.pid))

        process.send_signal(signal.SIGTERM)

        process.wait(60)
    assert script.submission.list_ends([formats.block_of(0)]) == Ends(
        set(), set(), set(), {0}
    )


def waits_for_a_sleep(pid: int) -> bool:
    """Whether a child of a process runs the command sleep."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return any(_runs_sleep(child) for child in children)


def _runs_sleep(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    except OSError:
        return False  # it has ended meanwhile


def test_worker_that_sends_itself_sigterm_has_died(tmp_path: Path) -> None:
    """Nobody else was told to end."""
    script = Script(tmp_path, "import os; os.kill(os.getpid(), 15)")

    script.run()

    assert formats.read_mark(f"{script.final}.died") == "143 0"


def test_requeued_job_forgets_how_it_ended_before(tmp_path: Path) -> None:
    """What the client sees from now on is the new attempt."""
    script = Script(tmp_path, SUCCEED, requeue=True)
    for name in ("died", "ending"):
        formats.leave_mark(f"{script.final}.{name}", "143")

    assert script.run(SLURM_RESTART_COUNT="1") == 0

    assert [path.name for path in script.final.parent.iterdir()] == ["0"]


def test_job_that_died_and_may_run_once_is_not_run_again(tmp_path: Path) -> None:
    """Slurm requeues it all the same if its exit code says so (RequeueExit)."""
    script = Script(tmp_path, SUCCEED)
    formats.leave_mark(f"{script.final}.died", "3 0")

    assert script.run(SLURM_RESTART_COUNT="1") == 0

    assert [path.name for path in script.final.parent.iterdir()] == ["0.died"]


def test_worker_that_finishes_after_sigterm_has_finished(tmp_path: Path) -> None:
    """Its outcomes count."""
    wait = "signal.pthread_sigmask(signal.SIG_BLOCK, [15]); {}; signal.sigwait([15])"
    waiting = wait.format("print('waiting', flush=True)")
    script = Script(tmp_path, f"import signal\n{waiting}\n{SUCCEED}")
    process = start_waiting(script)

    os.killpg(process.pid, signal.SIGTERM)

    with process:
        process.wait(60)
    assert process.returncode == 0
    assert script.submission.list_ends([formats.block_of(0)]) == Ends(
        set(), {0}, set(), set()
    )


@pytest.mark.parametrize("name", ["HUP", "INT", "USR1", "USR2", "ALRM", "XCPU"])
def test_signal_to_the_script_is_for_the_worker(tmp_path: Path, name: str) -> None:
    """`sbatch --signal=B:USR1@60` lets a call write its checkpoint."""
    script = Script(tmp_path, WAIT)
    process = start_waiting(script)

    process.send_signal(signal.Signals[f"SIG{name}"])

    with process:
        process.wait(60)
    assert process.returncode == 42


def test_requeued_job_whose_calls_are_done_does_nothing(tmp_path: Path) -> None:
    """Slurm may requeue a job at its very end; it must not run twice."""
    script = Script(tmp_path, SUCCEED)
    script.run()

    exit_code = script.run(SLURM_RESTART_COUNT="1")

    assert exit_code == 0
    assert script.log.read_text() == "set up\nrunning 0\n"


def test_attempt_that_was_given_up_ends_at_once(tmp_path: Path) -> None:
    """A job of an sbatch that had seemed to fail runs no call."""
    script = Script(tmp_path, SUCCEED)
    script.submission.allow_attempt(2)

    exit_code = script.run(attempt="1")

    assert exit_code == 0
    assert not script.job.exists()
    assert script.run(attempt="2") == 0
    assert script.final.exists()


@pytest.mark.parametrize("array", [False, True])
def test_adopted_job_runs_whichever_attempt_it_is(tmp_path: Path, array: bool) -> None:
    """And no other job of the submission."""
    script = Script(tmp_path, SUCCEED, array=array)
    name = "SLURM_ARRAY_JOB_ID" if array else "SLURM_JOB_ID"
    script.submission.allow_attempt(2)
    script.submission.adopt(2, 100)

    assert script.run("2", **{name: "101"}) == 0
    assert not script.job.exists()
    assert script.run("1", **{name: "100"}) == 0
    assert script.final.exists()


HOSTILE = 'it\'s $(touch pwned) `touch pwned` "a" %j {{ 7 * 7 }} é\t;&|<>*?'


def test_script_survives_hostile_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name of a directory is ever read by the shell."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / HOSTILE
    script = Script(directory, SUCCEED)

    assert script.run() == 0
    assert script.final.exists()
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("line_end", ["\n", "\r", "\x0b", "\u2028"])
def test_job_name_stays_in_its_comment(line_end: str) -> None:
    """A name with lines does not become commands."""
    text = ScriptTemplate(("python3",)).render(
        name=f"fit{line_end}touch pwned",
        run=Path("/run"),
        submission=Path("/run/0001"),
        block_size=1000,
        array=False,
    )

    (line,) = [line for line in text.splitlines() if "pwned" in line]
    assert line.startswith("# fit touch pwned")


def test_words_of_the_python_command_are_quoted() -> None:
    """Each of them reaches the program as it is."""
    words = ("apptainer", "exec", "my image.sif", "python3")

    text = render(ScriptTemplate(words, srun=True))

    assert f"srun --ntasks=1 {shlex.join(words)} " in text


def render(template: ScriptTemplate, *, array: bool = False) -> str:
    """Return the script of a submission in /run/0001."""
    return template.render(
        name="fit",
        run=Path("/run"),
        submission=Path("/run/0001"),
        block_size=1000,
        array=array,
    )


@pytest.mark.parametrize("array", [False, True])
def test_template_of_the_user_extends_ours(tmp_path: Path, array: bool) -> None:
    """Both kinds of scripts, with one file."""
    path = tmp_path / "ours.j2"
    path.write_text(
        "{% extends base %}\n{% block setup %}\nexport NAME={{ name | quote }}\n"
        "{{ super() }}{% endblock %}\n"
    )

    text = render(ScriptTemplate(("python3",), ("ulimit -c 0",), path), array=array)

    assert "export NAME=fit\nulimit -c 0\n" in text
    assert ("_index=$SLURM_ARRAY_TASK_ID" in text) is array


@pytest.mark.parametrize(
    "content",
    ["{% extends base %}{% block", "{{ no_such_name }}", "{% include 'nothing.j2' %}"],
    ids=["syntax", "undefined", "missing"],
)
def test_template_that_cannot_be_used_is_found_at_once(
    tmp_path: Path, content: str
) -> None:
    """By the constructor of the executor, not by the first job."""
    path = tmp_path / "ours.j2"
    path.write_text(content)

    with pytest.raises(OptionError, match=r"Start it with '{% extends base %}'"):
        ScriptTemplate(("python3",), template=path).check()


def test_template_that_is_not_there_is_found_at_once(tmp_path: Path) -> None:
    """Also where only the file is missing."""
    with pytest.raises(OptionError, match="No such file"):
        ScriptTemplate(("python3",), template=tmp_path / "none.j2").check()
