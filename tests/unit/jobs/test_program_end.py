"""The end of a program that still has jobs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import _thread, sys, threading, time
from slurm_futures import SlurmExecutor
from slurm_futures.jobs import program_end

executor = SlurmExecutor(scheduler="local", directory=sys.argv[1], **{options})
future = executor.submit(time.sleep, 600)

def interrupt():
    while not program_end._has_begun:
        time.sleep(0.01)
    _thread.interrupt_main()

while not future.running():
    time.sleep(0.01)
threading.Thread(target=interrupt, daemon=True).start()
"""


def test_interrupt_that_wakes_nobody_is_noticed_at_the_end(tmp_path: Path) -> None:
    """As one that comes just before CPython begins to wait: it overlooks that one."""
    for options in ({}, {"max_workers": 1, "max_tasks_per_child": None}):
        program = _PROGRAM.format(options=options)
        command = [sys.executable, "-c", program, str(tmp_path)]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=100, check=False
        )

        assert "KeyboardInterrupt" in ended.stderr
