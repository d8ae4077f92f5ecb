"""An example, `slurm-futures demo`: how far does an epidemic spread?

A parameter sweep over a grid: how many people one case infects (R0), and what share of
the population is vaccinated. Each call simulates stochastic epidemics at one point of
the grid and returns the attack rate, the share of the population that was infected.
Theory says that no epidemic starts where more than 1 - 1/R0 are vaccinated.

    executor.map(attack_rate, r0s, shares, seeds) -> rates -> heat_map

The nodes import this module by its name, as they import the functions of any package
that is installed; the functions of a script would travel with their calls.
"""

from __future__ import annotations

import itertools
import random
import sys
from statistics import fmean
from typing import TYPE_CHECKING

from slurm_futures import SlurmExecutor

if TYPE_CHECKING:
    from typing import Any, Literal

R0_RANGE, VACCINATED_RANGE = (0.75, 3.5), (0.0, 0.7)
POPULATION, FIRST_CASES = 5_000, 25  # people

#: Attack rates at which the next shade begins.
LIMITS = (0.05, 0.25, 0.5, 0.75)
#: To draw with: five shades, and the side, corner and bottom of the axes.
BLOCKS, ASCII = " ░▒▓█│└─", " .+*#|+-"

Rates = dict[tuple[float, float], float]  # by R0 and vaccinated share


def run(
    scheduler: Literal["slurm", "local"],
    points: tuple[int, int],
    seeds: int,
    chunksize: int,
    **sbatch_options: Any,  # whatever SlurmExecutor accepts
) -> None:
    """Simulate columns times rows of points, `chunksize` in each job, and draw them."""
    columns, rows = points
    axes = spread(R0_RANGE, columns), spread(VACCINATED_RANGE, rows)
    grid = list(itertools.product(*axes))
    r0s, shares = zip(*grid, strict=True)
    with SlurmExecutor(
        scheduler=scheduler, keep="always", progress=True, **sbatch_options
    ) as executor:
        found = executor.map(
            attack_rate, r0s, shares, itertools.repeat(seeds), chunksize=chunksize
        )
        rates = dict(zip(grid, found, strict=True))
    print(heat_map(rates, choose_ink(sys.stdout.encoding)))
    print(f"\nScripts, calls, logs and outcomes of the jobs: {executor.directory}")


def spread(ends: tuple[float, float], count: int) -> list[float]:
    """Return so many evenly spaced values, the ends among them."""
    step = (ends[1] - ends[0]) / max(1, count - 1)
    return [round(ends[0] + step * index, 6) for index in range(count)]


def attack_rate(r0: float, vaccinated: float, seeds: int) -> float:
    """Return the mean of `seeds` epidemics; this is what a job calls."""
    return fmean(epidemic(r0, vaccinated, seed) for seed in range(seeds))


def epidemic(r0: float, vaccinated: float, seed: int) -> float:
    """Simulate one epidemic event by event; return its attack rate.

    Until it recovers a case meets `r0` people, and infects those who are susceptible.
    What matters is only which event comes next, not when.
    """
    uniform = random.Random(f"{r0} {vaccinated} {seed}").random  # noqa: S311  no secret
    infectious = FIRST_CASES
    not_infected = POPULATION - round(vaccinated * POPULATION) - FIRST_CASES
    susceptible = not_infected
    while infectious:
        infections = r0 * susceptible / POPULATION  # for each case that recovers
        if uniform() * (infections + 1) < infections:
            susceptible -= 1
            infectious += 1
        else:
            infectious -= 1
    return (FIRST_CASES + not_infected - susceptible) / POPULATION


def choose_ink(encoding: str | None) -> str:
    """Return blocks where a stream of this encoding can show them, else plain ASCII."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return ASCII
    return BLOCKS


def heat_map(rates: Rates, ink: str) -> str:
    """Draw the attack rates, R0 to the right and the vaccinated share upwards."""
    *shades, side, corner, bottom = list(ink)
    r0s, shares = (sorted(set(axis)) for axis in zip(*rates, strict=True))
    width = max(1, min(5, 70 // len(r0s)))
    step = -(-5 // width)  # only so many labels that they do not run into each other
    lines = ["Share of the population that is infected", "  vaccinated"]
    for share in reversed(shares):
        cells = []
        for r0 in r0s:
            cell = shades[sum(rates[r0, share] >= limit for limit in LIMITS)] * width
            if share == herd_immunity(r0, shares):
                cell = f"{cell[: width // 2]}o{cell[width // 2 + 1 :]}"
            cells.append(cell)
        lines.append(f"{share:6.0%} {side}{''.join(cells)}".rstrip())
    labels = "".join(f"{r0:<{step * width}.2f}" for r0 in r0s[::step])
    legend = (
        f"{s * 2} from {n:.0%}   " for s, n in zip(shades[1:], LIMITS, strict=True)
    )
    lines += [
        f"{'':7}{corner}{bottom * (width * len(r0s))}",
        f"{'':8}{labels.rstrip()}  R0",
        f"{'':8}{''.join(legend)}o herd immunity, 1 - 1/R0",
    ]
    return "\n".join(lines)


def herd_immunity(r0: float, shares: list[float]) -> float | None:
    """Return the share that is nearest to 1 - 1/R0; None where no epidemic starts."""
    return min(shares, key=lambda share: abs(share - 1 + 1 / r0)) if r0 >= 1 else None
