"""The rules of the package as a whole: who imports whom, and what `import` costs."""

import ast
import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import slurm_futures
from slurm_futures.node.loader import NEEDED

ROOT = Path(slurm_futures.__file__).parent

#: Each room may import those to its right. Imports for types count, too.
ROOMS = (
    "__main__ command executor run session pool jobs runs calls schedulers errors node"
).split()

#: What is heavy, or starts programs, and the rooms or modules that may import it.
ONLY_IN = {
    "jinja2": {"runs.script"},
    "cloudpickle": {"calls.pickler", "calls.reducers", "calls.overlooked", "node"},
    "subprocess": {"schedulers"},
}


def find_modules() -> dict[str, ast.Module]:
    """Parse each module of the package; a room's name stands for its `__init__`."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text("utf-8"))
    del found["__init__"]  # the public names, and the version
    return found


MODULES = find_modules()


def imports_of(name: str) -> Iterator[str]:
    """Yield all that a module imports, for types as well, with full names."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # only in `node`, which has another name in jobs
                assert node.level == 1
                base = f"slurm_futures.node.{base}".rstrip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def our_imports(name: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    names = {each.removeprefix("slurm_futures.") for each in imports_of(name)}
    return names & MODULES.keys() - {name}


def room_of(name: str) -> str:
    """Return the folder of a module, or the module itself where it is in none."""
    return name.partition(".")[0]


def test_every_module_has_its_place() -> None:
    """The listing of the package is the glossary: it stays short."""
    assert {room_of(name) for name in MODULES} == set(ROOMS)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_to_the_right_only(name: str) -> None:
    """No room knows one to its left."""
    place = ROOMS.index(room_of(name))

    assert [
        each for each in our_imports(name) if ROOMS.index(room_of(each)) < place
    ] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """No cycle, also within a room."""
    graph = {name: our_imports(name) for name in MODULES}

    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module_is_not_too_long(name: str) -> None:
    """One idea each."""
    path = ROOT.joinpath(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    assert len(file.read_text("utf-8").splitlines()) <= 450


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_in_its_place_only(library: str) -> None:
    """What is heavy, or dangerous, has one home."""
    users = {name for name in MODULES if library in imports_of(name)}

    assert {
        name for name in users if not {name, room_of(name)} & ONLY_IN[library]
    } == set()


def test_threads_are_started_in_two_places_only() -> None:
    """Where it is known when they end."""
    starters = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "threading.Thread"
    }

    assert starters == {"jobs.threads", "schedulers.local.scheduler"}


def test_jobs_do_not_know_slurm() -> None:
    """The protocol is all that they need."""
    users = [name for name in MODULES if room_of(name) in {"jobs", "pool", "runs"}]
    backends = {"schedulers.slurm", "schedulers.local.scheduler"}

    assert [name for name in users if our_imports(name) & backends] == []


def test_no_module_reads_the_wall_clock() -> None:
    """Clocks jump, and those of nodes and file servers differ: monotonic time only.

    But for what is only shown: when a call ran.
    """
    shown = {"node.usage", "calls.usage"}
    forbidden = {"time.time", "time_ns", "st_mtime", "st_mtime_ns", "getmtime"}
    words = {
        name: {
            text
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            for text in (node.attr, ast.unparse(node))
        }
        for name, tree in MODULES.items()
    }

    assert [name for name in words if words[name] & forbidden] == []
    assert {name for name in words if "time.time" in imports_of(name)} == shown


@pytest.mark.parametrize("name", [each for each in MODULES if room_of(each) == "node"])
def test_nodes_need_the_standard_library_alone(name: str) -> None:
    """What runs there is a copy, with nothing else in reach."""
    outside = [
        each
        for each in imports_of(name)
        if each.partition(".")[0]
        not in {*sys.stdlib_module_names, "cloudpickle", "slurm_futures"}
    ]

    assert outside == []
    assert {room_of(each) for each in our_imports(name)} <= {"node"}


def test_what_each_job_needs_is_loaded_after_what_it_imports() -> None:
    """Else the machinery of imports has to find it."""
    loaded: list[str] = []
    for name in NEEDED:
        imported = {
            each.name if node.module is None else node.module
            for node in MODULES[f"node.{name}"].body
            if isinstance(node, ast.ImportFrom) and node.level
            for each in node.names
        }
        assert imported <= set(loaded)
        loaded.append(name)


def test_start_of_a_job_loads_little(tmp_path: Path) -> None:
    """It is paid once for each job."""
    shutil.copytree(ROOT / "node", tmp_path / "node_copy")

    loaded = run_python(f"sys.path.insert(0, {str(tmp_path)!r})", "node_copy.worker")

    ours = {name.partition(".")[2] for name in loaded if name.startswith("node_copy.")}
    assert not {"typing", "pathlib", "cloudpickle", "pickle", "contextlib"} & loaded
    assert ours == set(NEEDED)


def run_python(setup: str, module: str) -> set[str]:
    """Import a module in a new, isolated Python; return all that is loaded then."""
    code = f"import sys\n{setup}\nimport {module}\nprint(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return set(answer.stdout.split())


def test_import_of_the_package_is_cheap() -> None:
    """Names are loaded when they are used first."""
    setup = f"sys.path.insert(0, {str(ROOT.parent)!r})"

    loaded = run_python(setup, "slurm_futures")

    assert not {"jinja2", "cloudpickle", "concurrent.futures"} & loaded
    assert {name for name in loaded if name.startswith("slurm_futures")} == {
        "slurm_futures"
    }


def test_public_names_are_sorted() -> None:
    """So that each is found, and none is there twice."""
    assert slurm_futures.__all__ == sorted(set(slurm_futures.__all__))


@pytest.mark.parametrize("name", slurm_futures.__all__)
def test_public_name_can_be_imported(name: str) -> None:
    """Its class knows it by the same name."""
    assert getattr(importlib.reload(slurm_futures), name).__name__ == name


def test_other_names_are_no_attributes() -> None:
    """With Python's own words."""
    with pytest.raises(AttributeError, match="has no attribute 'SlurmExecuter'"):
        _ = slurm_futures.SlurmExecuter


def test_version_is_a_version() -> None:
    """Numbers with dots."""
    assert all(part.isdigit() for part in slurm_futures.__version__.split("."))
