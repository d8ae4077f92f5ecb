"""A parameter sweep that runs anywhere: how far does an epidemic spread?

Each call simulates stochastic SIR epidemics at a few points of a grid: how many people
one case infects (R0), and what share of the population is vaccinated. The report shows
the attack rate, the share of the population that was infected. Theory says that no
epidemic starts where more than 1 - 1/R0 are vaccinated.

    sweep -> submit(simulate, points, seeds) ... as_completed -> Sweep -> heat_map

`sweep` takes any executor of `concurrent.futures`. Options and the choice of the
scheduler are in `cli`. Nodes import this module for each job: it needs nothing but the
standard library.
"""

from __future__ import annotations

import math
import random
from concurrent.futures import as_completed
from dataclasses import astuple, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

#: People in each population.
POPULATION = 5_000
#: Share of them who are infectious on the first day.
FIRST_CASES = 0.005
#: Days that a case is infectious, on average.
INFECTIOUS_DAYS = 5.0

R0_RANGE = (0.75, 3.5)
VACCINATED_RANGE = (0.0, 0.7)


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the grid."""

    r0: float
    vaccinated: float


@dataclass(frozen=True, slots=True)
class Grid:
    """The points of a sweep: `columns` values of R0, `rows` of the vaccinated share."""

    columns: int
    rows: int

    @property
    def r0s(self) -> list[float]:
        """The values on the horizontal axis."""
        return _spread(*R0_RANGE, self.columns)

    @property
    def vaccinated(self) -> list[float]:
        """The values on the vertical axis, upwards."""
        return _spread(*VACCINATED_RANGE, self.rows)

    @property
    def points(self) -> list[Point]:
        """All points of the grid."""
        return [Point(r0, share) for r0 in self.r0s for share in self.vaccinated]


def _spread(first: float, last: float, count: int) -> list[float]:
    step = (last - first) / max(1, count - 1)
    return [round(first + step * index, 6) for index in range(count)]


@dataclass(frozen=True, slots=True)
class Epidemic:
    """How an epidemic went; at a point of the grid, the means over its seeds."""

    attack_rate: float
    #: Largest share that was infectious at the same time.
    peak: float
    #: Until the last case recovered.
    days: float


@dataclass(slots=True)
class Sweep:
    """What a sweep found, and which of its points failed."""

    grid: Grid
    epidemics: dict[Point, Epidemic] = field(default_factory=dict)
    failures: dict[Point, BaseException] = field(default_factory=dict)


def sweep(executor: Executor, grid: Grid, *, seeds: int, chunksize: int = 1) -> Sweep:
    """Simulate all points, `chunksize` of them in each call.

    A call that failed, or whose job failed, leaves its points out of the picture.
    """
    points = grid.points
    chunks = [points[i : i + chunksize] for i in range(0, len(points), chunksize)]
    futures = {executor.submit(simulate, chunk, seeds): chunk for chunk in chunks}
    result = Sweep(grid)
    for future in as_completed(futures):
        error = future.exception()
        if error is None:
            found = zip(futures[future], future.result(), strict=True)
            result.epidemics.update(found)
        else:
            result.failures.update(dict.fromkeys(futures[future], error))
    return result


def simulate(points: Sequence[Point], seeds: int) -> list[Epidemic]:
    """Simulate `seeds` epidemics at each point; this is what a job calls."""
    return [_mean([epidemic(point, seed) for seed in range(seeds)]) for point in points]


def _mean(epidemics: Sequence[Epidemic]) -> Epidemic:
    return Epidemic(
        attack_rate=fmean(each.attack_rate for each in epidemics),
        peak=fmean(each.peak for each in epidemics),
        days=fmean(each.days for each in epidemics),
    )


def epidemic(point: Point, seed: int, population: int = POPULATION) -> Epidemic:
    """Simulate one epidemic event by event, with Gillespie's direct method.

    Rates are in units of the infectious period: a case recovers at rate 1, and meets
    people at rate `r0`, of whom it infects those who are susceptible.
    """
    rng = random.Random(f"{point} {seed}")  # noqa: S311  (a simulation, not a secret)
    uniform, waiting_time = rng.random, rng.expovariate
    first_cases = infectious = peak = max(1, round(FIRST_CASES * population))
    not_infected = population - round(point.vaccinated * population) - first_cases
    susceptible = not_infected
    elapsed = 0.0
    while infectious:
        infection_rate = point.r0 * infectious * susceptible / population
        rate = infection_rate + infectious
        elapsed += waiting_time(rate)
        if uniform() * rate < infection_rate:
            susceptible -= 1
            infectious += 1
            peak = max(peak, infectious)
        else:
            infectious -= 1
    return Epidemic(
        attack_rate=(first_cases + not_infected - susceptible) / population,
        peak=peak / population,
        days=elapsed * INFECTIOUS_DAYS,
    )


def final_size(point: Point) -> float:
    """Solve the final size equation: the attack rate in an infinite population.

    Of those who are susceptible at first, the share exp(-r0 * attack rate) escapes.
    """
    susceptible = 1 - point.vaccinated - FIRST_CASES
    low, high = 0.0, 1.0
    for _ in range(50):
        guess = (low + high) / 2
        infected = FIRST_CASES + susceptible * -math.expm1(-point.r0 * guess)
        low, high = (guess, high) if infected > guess else (low, guess)
    return (low + high) / 2


def herd_immunity(r0: float) -> float:
    """Return the vaccinated share above which no epidemic starts, for r0 >= 1."""
    return 1 - 1 / r0


@dataclass(frozen=True, slots=True)
class Ink:
    """Characters to draw with: shades from light to dark, and those of the axes."""

    shades: str
    side: str
    corner: str
    bottom: str

    def shade(self, attack_rate: float) -> str:
        """Return the character for an attack rate."""
        return self.shades[sum(attack_rate >= limit for limit in BREAKS)]

    def legend(self) -> str:
        """Say what the shades mean."""
        limits = (f"from {limit:.0%}" for limit in BREAKS)
        pairs = zip(self.shades[1:], limits, strict=True)
        return "   ".join(f"{shade * 2} {limit}" for shade, limit in pairs)


#: Attack rates at which the next shade begins.
BREAKS = (0.05, 0.25, 0.5, 0.75)
BLOCKS = Ink(" ░▒▓█", side="│", corner="└", bottom="─")
ASCII = Ink(" .+*#", side="|", corner="+", bottom="-")


def choose_ink(encoding: str | None) -> Ink:
    """Return blocks where a stream of this encoding can show them, else plain ASCII."""
    try:
        "".join(astuple(BLOCKS)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def table(found: Sweep) -> str:
    """List the epidemics in which nobody is vaccinated, beside the theory."""
    lines = [
        "Nobody vaccinated: the share of the population that is infected",
        "  R0   simulated   in theory   at the peak   days",
    ]
    for r0 in _thinned(found.grid.r0s, 12):
        point = Point(r0, found.grid.vaccinated[0])
        mean = found.epidemics.get(point)
        if mean is None:
            lines.append(f"{r0:4.2f}      failed   {final_size(point):9.1%}")
        else:
            lines.append(
                f"{r0:4.2f}   {mean.attack_rate:9.1%}   {final_size(point):9.1%}"
                f"   {mean.peak:11.1%}   {mean.days:4.0f}"
            )
    return "\n".join(lines)


def _thinned(values: list[float], most: int) -> list[float]:
    return values[:: -(-len(values) // most)]


def heat_map(found: Sweep, ink: Ink) -> str:
    """Draw the attack rate, R0 to the right and the vaccinated share upwards."""
    grid = found.grid
    width = max(1, min(5, 70 // grid.columns))
    per_label = -(-5 // width)
    labels = "".join(f"{r0:<{per_label * width}.2f}" for r0 in grid.r0s[::per_label])
    lines = ["Share of the population that is infected", "  vaccinated"]
    for share in reversed(grid.vaccinated):
        cells = (_cell(found, Point(r0, share), ink, width) for r0 in grid.r0s)
        lines.append(f"{share:6.0%} {ink.side}{''.join(cells)}".rstrip())
    lines += [
        f"{'':7}{ink.corner}{ink.bottom * (width * grid.columns)}",
        f"{'':8}{labels.rstrip()}  R0",
        f"{'':8}{ink.legend()}   o herd immunity, 1 - 1/R0",
    ]
    return "\n".join(lines)


def _cell(found: Sweep, point: Point, ink: Ink, width: int) -> str:
    mean = found.epidemics.get(point)
    cell = (ink.shade(mean.attack_rate) if mean else "?") * width
    if point.vaccinated != _row_of_herd_immunity(found.grid, point.r0):
        return cell
    return f"{cell[: width // 2]}o{cell[width // 2 + 1 :]}"


def _row_of_herd_immunity(grid: Grid, r0: float) -> float | None:
    if r0 < 1:
        return None  # no epidemic to be immune to
    return min(grid.vaccinated, key=lambda share: abs(share - herd_immunity(r0)))
