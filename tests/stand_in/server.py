"""The Slurm that answers the stand-in commands: a thread of the test's own process.

    SlurmScheduler --> bin/sbatch --> client.py --socket--> StandInSlurm
                                                              |  faults
                                                              v
                                                    commands.py --> LocalScheduler

Jobs run as with LocalScheduler. Nothing is left when the `with` block ends: jobs are
cancelled, commands that still wait get their answer.
"""

from __future__ import annotations

import json
import math
import os
import socketserver
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from slurm_futures.schedulers.local.scheduler import LocalScheduler
from tests.stand_in.commands import Answer, Commands, Request
from tests.waiting import assert_soon

if TYPE_CHECKING:
    from types import TracebackType

_BIN = Path(__file__).with_name("bin")


@dataclass(eq=False)
class Fault:
    """What is wrong with a command, the next few times it is run.

    Attributes:
        command: such as "sbatch".
        times: it happens so often, then all is well again.
        delay: seconds; math.inf: until `released` is set. The command acts after it,
            even if somebody has killed it by then, as requests to slurmctld do.
        executed: whether it does what it was asked.
        exit_code: None: the command's own, and its output is printed, too.
        stdout: printed first, such as the banner of a site.
        stderr: printed first.
    """

    command: str
    times: int = 1
    delay: float = 0.0
    executed: bool = False
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    def applies(self, request: Request) -> bool:
        """Whether this command is the next one that goes wrong."""
        return self.times > 0 and self.command == request.command[0]

    def apply(self, commands: Commands, request: Request) -> Answer:
        """Answer in the place of the command."""
        self.released.wait(None if self.delay == math.inf else self.delay)
        own = commands.run(request) if self.executed else Answer()
        if self.exit_code is not None:
            return Answer(self.stdout, self.stderr, self.exit_code)
        return Answer(self.stdout + own.stdout, self.stderr + own.stderr, own.exit_code)


class StandInSlurm:
    """A cluster of one node, for as long as its `with` block lasts.

    Args:
        cpus: of the node.
        max_array_size: one more than the highest index of an array task.
        min_job_age: seconds for which ended jobs are remembered.

    Attributes:
        calls: the command lines so far, each as list of words.
    """

    def __init__(
        self, cpus: int = 4, max_array_size: int = 1001, min_job_age: float = 300.0
    ) -> None:
        self.calls: list[list[str]] = []
        self._scheduler = LocalScheduler(cpus, min_job_age=min_job_age)
        self._commands = Commands(self._scheduler, cpus, max_array_size)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()  # guards calls and faults
        # Not in tmp_path: the name of a socket has a limit of 108 characters.
        self._directory = tempfile.TemporaryDirectory(prefix="stand-in-", dir="/tmp")
        self._server = _Server(str(Path(self._directory.name, "socket")), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for fault in self._faults:
            fault.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._scheduler.cancel(self._scheduler.query().jobs.keys())
        assert_soon(lambda: not self.open_jobs())
        self._directory.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a program finds these commands."""
        return {
            "PATH": os.pathsep.join([str(_BIN), os.environ.get("PATH", os.defpath)]),
            "STAND_IN_PYTHON": sys.executable,
            "STAND_IN_SOCKET": self._server.path,
        }

    def inject(self, fault: Fault) -> Fault:
        """Let something go wrong from now on; faults of a command come one by one."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def calls_of(self, command: str) -> list[list[str]]:
        """The arguments of each call of a command so far."""
        with self._lock:
            return [words[1:] for words in self.calls if words[0] == command]

    def open_jobs(self) -> list[str]:
        """The ids of what waits or runs."""
        jobs = self._scheduler.query().jobs
        return [
            str(job)
            for job, rows in jobs.items()
            if not all(row.state.ended for row in rows)
        ]

    def answer(self, request: Request) -> Answer:
        """Do what a command was asked, unless something is wrong with it."""
        with self._lock:
            self.calls.append(request.command)
            fault = next((f for f in self._faults if f.applies(request)), None)
            if fault is not None:
                fault.times -= 1
        if fault is not None:
            return fault.apply(self._commands, request)
        return self._commands.run(request)


class _Server(socketserver.ThreadingUnixStreamServer):
    """A thread for each command that waits for its answer."""

    def __init__(self, path: str, slurm: StandInSlurm) -> None:
        self.path = path
        self.slurm = slurm
        super().__init__(path, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        request = Request(**json.load(self.rfile))
        answer = self.server.slurm.answer(request)
        with suppress(BrokenPipeError):  # somebody killed the command meanwhile
            self.wfile.write(json.dumps(answer._asdict()).encode())
