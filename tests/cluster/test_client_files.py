"""Each operation of the client on files may fail: that costs no value.

    SLURM_FUTURES_EVERY_OPERATION=1 ./run tests tests/cluster/test_client_files.py

lets each one fail in each way, which takes an hour; else there is a sample.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from slurm_futures import OptionError
from tests.cluster.conftest import MakeExecutor
from tests.contract.calls import identity
from tests.failing_files import FailingFiles

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(7200)]

PATIENCE = 60  #: seconds
_EVERY = bool(os.environ.get("SLURM_FUTURES_EVERY_OPERATION"))
_ERRORS = [
    *(errno.ESTALE, errno.EIO, errno.EACCES),
    *(errno.ENOSPC, errno.ETIMEDOUT, errno.EINTR),
]


def use(make_executor: MakeExecutor, files: FailingFiles, **options: Any) -> list[str]:
    """Use an executor once; return what goes wrong that should not."""
    with files.active():
        try:
            executor = make_executor(**options)
        except OptionError as refusal:
            return _find_problems(refusal, files)
        futures = [executor.submit(identity, number) for number in range(3)]
        problems = []
        for number, future in enumerate(futures):
            error = future.exception(PATIENCE)
            if error is not None:
                problems.append(repr(error))
            elif future.result() != number or future.job_id is None:
                problems.append(f"{future.result()} of {future!r}, not {number}")
        executor.shutdown()
    return problems


def _find_problems(refusal: OptionError, files: FailingFiles) -> list[str]:
    """Say so where the constructor, which waits for a moment only, should not raise."""
    is_right = os.strerror(files.error) in str(refusal) and len(files.failed) > 1
    return [] if is_right else [repr(refusal)]


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("seconds", [0, 3], ids=["once", "for 3 s"])
@pytest.mark.parametrize("tasks", [1, None], ids=["jobs", "pool"])
def test_any_operation_may_fail(
    make_executor: MakeExecutor,
    tmp_path: Path,
    tasks: int | None,
    seconds: float,
) -> None:
    """The calls end with their values, as long as it does not last for the grace."""
    options = {"max_workers": 3, "max_tasks_per_child": tasks, "grace": 20}
    directory = tmp_path / "runs"
    clean = FailingFiles(directory)
    assert use(make_executor, clean, **options) == []
    count = len(clean.operations)
    step = 1 if _EVERY else count // (3 if seconds else 8)
    found = []
    for number in range(0, count, step):
        for error in _ERRORS if _EVERY else [_ERRORS[number // step % len(_ERRORS)]]:
            files = FailingFiles(directory, number, seconds, error)
            try:
                problems = use(make_executor, files, **options)
            except (OSError, TimeoutError) as failure:
                problems = [repr(failure)]
            found += [f"{files.failed[:1]}: {each}" for each in problems]

    assert found == []
