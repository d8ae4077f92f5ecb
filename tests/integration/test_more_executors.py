"""more-executors wraps an executor: retries, timeouts, mapped and chained futures."""

from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from slurm_futures import SlurmExecutor
from tests.contract.gate import Gate
from tests.integration.clients import client, fail_the_first_time, square

more_executors = client("more_executors")
Executors = more_executors.Executors


def test_call_that_raises_is_tried_again(
    executor: SlurmExecutor, tmp_path: Path
) -> None:
    """The second attempt is submitted from the callback of the first."""
    with Executors.with_retry(executor, max_attempts=2, sleep=0.01) as retrying:
        future = retrying.submit(fail_the_first_time, tmp_path / "mark")

        assert future.result() == "went well"


def test_results_are_mapped_in_this_process(executor: SlurmExecutor) -> None:
    """Wrapped futures are chained with functions that need not be pickled."""
    seen: list[int] = []
    with Executors.with_map(executor, seen.append) as mapped:
        mapped.submit(square, 3).result()

    assert seen == [9]


def test_call_is_cancelled_at_its_timeout(executor: SlurmExecutor, gate: Gate) -> None:
    """A wrapper cancels our future, and with it the job."""
    with Executors.with_timeout(executor, 0.01) as impatient:
        future = impatient.submit(gate.hold, "held")

        with pytest.raises(CancelledError):
            future.result()
