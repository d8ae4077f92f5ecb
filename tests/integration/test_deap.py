"""DEAP: toolbox.register("map", executor.map)."""

import random

from tests.integration.clients import MakeExecutor, client

algorithms = client("deap.algorithms")
base = client("deap.base")
creator = client("deap.creator")
tools = client("deap.tools")


def test_generation_is_evaluated_by_map(make_executor: MakeExecutor) -> None:
    """DEAP makes classes at run time; the initializer makes them in each job too."""
    _make_classes()
    executor = make_executor(initializer=_make_classes)
    toolbox = base.Toolbox()
    toolbox.register("map", executor.map)
    toolbox.register("evaluate", lambda individual: (sum(individual),))
    toolbox.register("mate", tools.cxOnePoint)
    toolbox.register("mutate", tools.mutFlipBit, indpb=0.5)
    toolbox.register("select", tools.selBest)
    population = [creator.Individual(bits) for bits in ([0, 1], [1, 1], [0, 0])]
    random.seed(1)
    end, _ = algorithms.eaSimple(population, toolbox, 0.5, 0.5, ngen=1, verbose=False)

    assert [one.fitness.values for one in end] == [(sum(one),) for one in end]


def _make_classes() -> None:
    if not hasattr(creator, "Individual"):
        creator.create("Best", base.Fitness, weights=(1.0,))
        creator.create("Individual", list, fitness=creator.Best)
