"""The demo: its epidemics follow the theory, its picture shows what happened."""

import itertools

import pytest

from slurm_futures.command import demo


@pytest.mark.parametrize(
    ("r0", "infected"), [(0.5, 0.01), (1.5, 0.587), (2.0, 0.799), (3.5, 0.967)]
)
def test_epidemics_have_the_final_size_of_the_theory(
    r0: float, infected: float
) -> None:
    """The share x that solves x = 1 - 0.995 exp(-r0 x), since 0.5 % begin as cases."""
    assert demo.attack_rate(r0, 0.0, seeds=10) == pytest.approx(infected, abs=0.02)


def test_same_seed_is_the_same_epidemic() -> None:
    """A sweep that is run again gives the same picture, wherever its jobs ran."""
    assert demo.epidemic(1.5, 0.1, seed=3) == demo.epidemic(1.5, 0.1, seed=3)
    assert demo.epidemic(1.5, 0.1, seed=3) != demo.epidemic(1.5, 0.1, seed=4)


def test_vaccinated_people_are_never_infected() -> None:
    """However contagious the disease is."""
    assert demo.epidemic(r0=50.0, vaccinated=0.6, seed=0) == 0.4


def test_an_axis_has_both_its_ends() -> None:
    """So that the picture does not depend on the number of points."""
    assert demo.spread((0.75, 3.5), 12)[::11] == [0.75, 3.5]
    assert demo.spread((0.75, 3.5), 1) == [0.75]


@pytest.mark.parametrize(
    ("encoding", "ink"),
    [
        ("utf-8", demo.BLOCKS),
        ("ascii", demo.ASCII),
        ("latin-1", demo.ASCII),
        (None, demo.ASCII),
    ],
)
def test_ink_is_what_the_stream_can_show(encoding: str | None, ink: str) -> None:
    """A terminal without Unicode shows a picture too."""
    assert demo.choose_ink(encoding) == ink


def test_heat_map_has_labelled_axes_and_a_row_for_each_share() -> None:
    """R0 grows to the right, the vaccinated share upwards."""
    points = itertools.product([0.75, 3.5], [0.0, 0.7])
    rates = dict(zip(points, [0.01, 0.3, 0.6, 0.9], strict=True))

    assert demo.heat_map(rates, demo.ASCII).splitlines() == [
        "Share of the population that is infected",
        "  vaccinated",
        "   70% |+++++##o##",
        "    0% |     *****",
        "       +----------",
        "        0.75 3.50  R0",
        "        .. from 5%   ++ from 25%   ** from 50%   ## from 75%"
        "   o herd immunity, 1 - 1/R0",
    ]


def test_wide_heat_map_has_fewer_labels_than_columns() -> None:
    """The labels of narrow columns must not run into each other."""
    r0s = demo.spread(demo.R0_RANGE, 30)
    picture = demo.heat_map({(r0, 0.0): 0.0 for r0 in r0s}, demo.BLOCKS)

    assert picture.splitlines()[-2].split()[:3] == ["0.75", "1.03", "1.32"]
