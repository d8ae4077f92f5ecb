"""What the jobs of the benchmarks compute. Imported on the nodes, so it is small."""

import time


def echo(number: int) -> int:
    """Do nothing."""
    return number


def wait_and_tell(seconds: float) -> float:
    """Sleep, and return when that was over (seconds since the epoch)."""
    if seconds:
        time.sleep(seconds)
    return time.time()


def square(number: int) -> int:
    """Compute next to nothing, such that the sum of many is known."""
    return number * number
