"""tqdm around our futures and results.

`tqdm.contrib.concurrent` takes no executor: it makes a pool of its own class.
"""

import io
from concurrent.futures import as_completed

from slurm_futures import SlurmExecutor
from tests.integration.clients import client, square

tqdm = client("tqdm").tqdm
tqdm.monitor_interval = 0  # else it starts a thread that outlives the bars


def test_bar_over_as_completed_counts_every_call(executor: SlurmExecutor) -> None:
    """The bar gets each future once, and ends at the total."""
    futures = [executor.submit(square, number) for number in range(4)]
    screen = io.StringIO()
    results = [
        future.result()
        for future in tqdm(as_completed(futures), total=len(futures), file=screen)
    ]

    assert sorted(results) == [0, 1, 4, 9]
    assert "4/4" in screen.getvalue()


def test_bar_over_map_keeps_the_order(executor: SlurmExecutor) -> None:
    """The iterator of `map` can be wrapped as any other."""
    screen = io.StringIO()
    results = list(tqdm(executor.map(square, range(4)), total=4, file=screen))

    assert results == [0, 1, 4, 9]
    assert "4/4" in screen.getvalue()
