"""The demo: its epidemics follow the theory, its pictures show what happened."""

from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from slurm_futures.command import demo
from slurm_futures.command.demo import Epidemic, Grid, Point, Sweep


@pytest.mark.parametrize(
    "point",
    [
        Point(r0=0.5, vaccinated=0.0),
        Point(r0=1.5, vaccinated=0.0),
        Point(r0=2.0, vaccinated=0.2),
        Point(r0=2.0, vaccinated=0.7),
        Point(r0=3.5, vaccinated=0.5),
    ],
    ids=str,
)
def test_large_population_has_the_final_size_of_the_theory(point: Point) -> None:
    """The deterministic limit is the one check that needs no other simulation."""
    found = demo.epidemic(point, seed=1, population=40_000)

    assert demo.final_size(point) == pytest.approx(found.attack_rate, abs=0.02)


def test_final_size_solves_its_equation() -> None:
    """For R0 = 2 and nobody vaccinated, a well known 79.7 % are infected."""
    assert demo.final_size(Point(r0=2.0, vaccinated=0.0)) == pytest.approx(
        0.797, abs=0.003
    )


def test_first_cases_recover_at_rate_one_when_nobody_can_be_infected() -> None:
    """The last of n independent exponential times is at 1 + 1/2 + ... + 1/n."""
    nobody_infects = Point(r0=0.0, vaccinated=0.0)
    days = [demo.epidemic(nobody_infects, seed, 1_000).days for seed in range(500)]

    mean = sum(days) / len(days)

    expected = demo.INFECTIOUS_DAYS * sum(1 / n for n in range(1, 6))
    assert mean == pytest.approx(expected, rel=0.1)


def test_same_seed_is_the_same_epidemic() -> None:
    """A sweep that is run again gives the same picture, wherever its jobs ran."""
    point = Point(r0=1.5, vaccinated=0.1)

    assert demo.epidemic(point, seed=3) == demo.epidemic(point, seed=3)
    assert demo.epidemic(point, seed=3) != demo.epidemic(point, seed=4)


def test_vaccinated_people_are_never_infected() -> None:
    """However contagious the disease is."""
    found = demo.epidemic(Point(r0=50.0, vaccinated=0.6), seed=0)

    assert found.attack_rate == 0.4


def test_simulate_gives_the_mean_over_the_seeds() -> None:
    """A job returns one epidemic for each of its points."""
    points = [Point(r0=1.5, vaccinated=0.0), Point(r0=3.0, vaccinated=0.0)]
    rates = [demo.epidemic(points[1], seed).attack_rate for seed in range(2)]

    means = demo.simulate(points, seeds=2)

    assert len(means) == 2
    assert means[1].attack_rate == pytest.approx(sum(rates) / 2)


def test_grid_has_both_ends_of_its_axes() -> None:
    """So that the picture does not depend on the number of points."""
    grid = Grid(columns=12, rows=8)

    assert (grid.r0s[0], grid.r0s[1], grid.r0s[-1]) == (0.75, 1.0, 3.5)
    assert (grid.vaccinated[0], grid.vaccinated[-1]) == (0.0, 0.7)
    assert len(grid.points) == 96


def test_grid_of_one_point_has_the_lower_ends() -> None:
    """Nothing is divided by zero."""
    assert Grid(columns=1, rows=1).points == [Point(r0=0.75, vaccinated=0.0)]


def test_sweep_has_an_epidemic_for_each_point() -> None:
    """The chunks need not divide the grid."""
    grid = Grid(columns=3, rows=3)

    with ThreadPoolExecutor(2) as executor:
        found = demo.sweep(executor, grid, seeds=1, chunksize=2)

    assert sorted(found.epidemics, key=str) == sorted(grid.points, key=str)
    assert not found.failures


def test_sweep_goes_on_after_a_call_that_failed() -> None:
    """A job that died costs its own points only."""
    executor = _SecondCallFails()

    found = demo.sweep(executor, Grid(columns=2, rows=2), seeds=1, chunksize=1)

    assert list(found.failures) == [Point(r0=0.75, vaccinated=0.7)]
    assert len(found.epidemics) == 3


class _SecondCallFails(Executor):
    calls = 0

    # Any: as in the stub of the base class.
    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls += 1
        if self.calls == 2:
            future.set_exception(BrokenExecutor("the job died"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize(
    ("encoding", "ink"),
    [
        ("utf-8", demo.BLOCKS),
        ("ascii", demo.ASCII),
        ("latin-1", demo.ASCII),
        ("no such encoding", demo.ASCII),
        (None, demo.ASCII),
    ],
)
def test_ink_is_what_the_stream_can_show(encoding: str | None, ink: demo.Ink) -> None:
    """A terminal without Unicode shows a picture too."""
    assert demo.choose_ink(encoding) == ink


def test_heat_map_has_labelled_axes_and_a_row_for_each_share() -> None:
    """R0 grows to the right, the vaccinated share upwards."""
    found = _sweep_with(Grid(columns=2, rows=2), attack_rates=[0.01, 0.3, 0.6, 0.9])

    assert demo.heat_map(found, demo.ASCII).splitlines() == [
        "Share of the population that is infected",
        "  vaccinated",
        "   70% |+++++##o##",
        "    0% |     *****",
        "       +----------",
        "        0.75 3.50  R0",
        "        .. from 5%   ++ from 25%   ** from 50%   ## from 75%"
        "   o herd immunity, 1 - 1/R0",
    ]


def test_heat_map_marks_failed_points() -> None:
    """Nobody takes a missing value for a small one."""
    picture = demo.heat_map(Sweep(Grid(columns=1, rows=1)), demo.BLOCKS)

    assert "    0% │?????" in picture


def test_wide_heat_map_has_fewer_labels_than_columns() -> None:
    """The labels of narrow columns must not run into each other."""
    found = Sweep(Grid(columns=30, rows=1))

    labels = demo.heat_map(found, demo.ASCII).splitlines()[-2]

    assert labels.split()[:3] == ["0.75", "1.03", "1.32"]


def test_table_compares_the_simulation_with_the_theory() -> None:
    """At most 12 lines; a point that failed says so."""
    found = _sweep_with(Grid(columns=2, rows=1), attack_rates=[0.0234])

    assert demo.table(found).splitlines()[-2:] == [
        "0.75        2.3%        1.9%          5.0%     90",
        "3.50      failed       96.6%",
    ]
    assert len(demo.table(Sweep(Grid(columns=50, rows=1))).splitlines()) <= 2 + 12


def _sweep_with(grid: Grid, attack_rates: list[float]) -> Sweep:
    epidemics = [Epidemic(rate, peak=0.05, days=90) for rate in attack_rates]
    return Sweep(grid, dict(zip(grid.points, epidemics, strict=False)))
