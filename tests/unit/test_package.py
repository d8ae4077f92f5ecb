"""The rules of the package as a whole: who imports whom, and what `import` costs."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import slurm_futures

ROOT = Path(slurm_futures.__file__).parent

#: Imports go downwards only: each module may import those of the lines below its own.
LAYERS = [
    "__main__",
    "cli",
    "executor demo",
    "session mapping arguments",
    "poller pool canceller",
    "inspection pool_inspection",
    "endings submitter progress sharing pace",
    "settling sending open_submission places post_mortem pending pool_units "
    "pool_workers",
    "job_requests",
    "staging retries future",
    "pool_directory script serialization",
    "directories",
    "tracking",
    "schedulers.slurm schedulers.local",
    "schedulers.queue_cache schedulers.local_launch schedulers.local_queue "
    "schedulers.parsing schedulers.processes",
    "schedulers.local_submission",
    "errors threads files pickler outage",
    "schedulers.base",
    "worker pool_worker by_value call_errors start __init__ schedulers.__init__",
]
_LEVELS = {name: level for level, line in enumerate(LAYERS) for name in line.split()}

#: Modules that may import what is heavy, or starts programs.
ONLY_IN = {
    "jinja2": {"script"},
    # The worker does so when a value cannot be pickled by reference.
    "cloudpickle": {"pickler", "worker", "by_value"},
    "subprocess": {"schedulers.slurm", "schedulers.processes"},
}
#: They run on the nodes, as copies without the package.
ON_NODES = ["worker", "pool_worker", "by_value", "call_errors"]


def find_modules() -> dict[str, ast.Module]:
    """Parse each module of the package."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(
            path.read_text("utf-8")
        )
        for path in ROOT.rglob("*.py")
    }


MODULES = find_modules()


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yield the names that are imported when the program runs, not for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports_of(node)


def our_imports(name: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    found = set()
    for each in imports_of(MODULES[name]):
        inner = each.removeprefix("slurm_futures.")
        if inner != each and inner in _LEVELS:
            found.add(inner)
    return found


def test_every_module_has_its_place() -> None:
    """A new module says where it belongs."""
    assert sorted(MODULES) == sorted(_LEVELS)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_downwards_only(name: str) -> None:
    """No cycles, and no lower module that knows a higher one."""
    level = _LEVELS.get(name, 0)

    assert [each for each in our_imports(name) if _LEVELS[each] <= level] == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_in_its_place_only(library: str) -> None:
    """What is heavy, or dangerous, has one home."""
    users = {name for name in MODULES if library in imports_of(MODULES[name])}

    assert users <= ONLY_IN[library]


def test_poller_does_not_know_slurm() -> None:
    """The protocol is all that it needs."""
    assert not {"schedulers.slurm", "schedulers.local"} & our_imports("poller")


def test_no_module_reads_the_wall_clock() -> None:
    """Clocks jump, and those of nodes and file servers differ: monotonic time only."""
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


@pytest.mark.parametrize("name", ON_NODES)
def test_worker_needs_the_standard_library_alone(name: str, tmp_path: Path) -> None:
    """It runs from its copy, with nothing else in reach."""
    copy = tmp_path / f"{name}.py"
    copy.write_bytes((ROOT / f"{name}.py").read_bytes())

    outside = [
        each
        for each in imports_of(MODULES[name])
        if each.partition(".")[0] not in {*sys.stdlib_module_names, "cloudpickle"}
    ]
    answer = run_python(f"import sys; sys.path.insert(0, {str(tmp_path)!r})", name)

    assert outside == []
    assert not {"slurm_futures", "typing", "pathlib", "cloudpickle"} & answer


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
