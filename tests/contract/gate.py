"""A door between a test and its calls: files in a directory that both can see.

With it a test holds calls where it wants them, instead of sleeping and hoping.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.waiting import assert_soon

T = TypeVar("T")

_PATIENCE = 200  #: seconds after which a held call fails, so that no test hangs


@dataclass(frozen=True, slots=True)
class Gate:
    """Calls arrive, each under a name of its own, and wait until the test opens."""

    directory: Path

    def hold(self, value: T) -> T:
        """Arrive under the value's name, wait, return the value; runs in the call."""
        (self.directory / f"{value}.arrived").touch()
        submission, opened_for_all = self.directory / f"{value}.open", self._open
        assert_soon(lambda: submission.exists() or opened_for_all.exists(), _PATIENCE)
        return value

    def hold_and_fail(self, value: object) -> None:
        """As `hold`, and then raise; runs in the call."""
        self.hold(value)
        raise ArithmeticError(value)

    def time_inside(self, value: object) -> tuple[float, float]:
        """As `hold`, and return from when to when (monotonic seconds)."""
        began = time.monotonic()
        self.hold(value)
        return began, time.monotonic()

    def open(self, value: object = None) -> None:
        """Let the call of this name go on, or all of them.

        With a directory, for which this process needs no file descriptor.
        """
        path = self._open if value is None else self.directory / f"{value}.open"
        path.mkdir(exist_ok=True)

    def arrivals(self) -> set[str]:
        """Return the names of all calls that have started."""
        return {path.stem for path in self.directory.glob("*.arrived")}

    def await_arrivals(self, *values: object) -> None:
        """Wait until the calls of these names have started."""
        names = {str(value) for value in values}
        assert_soon(
            lambda: names <= self.arrivals(), 60, lambda: f"only {self.arrivals()}"
        )

    @property
    def _open(self) -> Path:
        return self.directory / "open"
