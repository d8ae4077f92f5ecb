"""What the tests of client libraries share: the import, and functions for jobs.

The functions are not in the test modules, since a job that unpickles one imports its
module: this one is quick to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_futures import SlurmExecutor

#: Takes the arguments of SlurmExecutor; the fixture shuts down what it made.
MakeExecutor: TypeAlias = "Callable[..., SlurmExecutor]"


# Any: most of these libraries have no types, and none is there when mypy runs.
def client(module: str) -> Any:
    """Import a module of a client library; skip the whole test module without it."""
    import pytest

    library = module.partition(".")[0].replace("_", "-")
    reason = f"needs {library}: pip install slurm-futures[clients]"
    return pytest.importorskip(module, reason=reason)


def square(number: int) -> int:
    """Return the square of a number."""
    return number * number


def reciprocal(number: float) -> float:
    """Return one over a number, or raise ZeroDivisionError."""
    return 1 / number


def bowl(point: Sequence[float]) -> float:
    """Return a function of two variables with its minimum, 0, at (1, 1)."""
    return float((point[0] - 1) ** 2 + (point[1] - 1) ** 2)


def log_probability(point: Sequence[float]) -> float:
    """Return the logarithm of a normal distribution, apart from a constant."""
    return -0.5 * float(point[0]) ** 2


def fail_the_first_time(mark: Path) -> str:
    """Raise OSError unless an earlier call has left its mark."""
    if mark.exists():
        return "went well"
    mark.touch()
    raise OSError("not ready yet")
