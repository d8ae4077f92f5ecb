"""What docs/architecture.md names exists."""

import re
from pathlib import Path

import pytest

import slurm_futures

_ROOT = Path(slurm_futures.__file__).parent
_TEXT = Path(__file__).parents[2].joinpath("docs/architecture.md").read_text("utf-8")
_QUOTED = sorted(set(re.findall(r"`([^`\n]+)`", _TEXT)))
_FILES = [
    each for each in _QUOTED if re.fullmatch(r"[\w/]+(\.py|\.j2|\.sh\.j2|/)", each)
]
_CLASSES = [each for each in _QUOTED if re.fullmatch(r"[A-Z]\w+(\.\w+)?", each)]
_FUNCTIONS = ["block_of", "leave_mark"]


@pytest.mark.parametrize("name", _FILES)
def test_file_exists(name: str) -> None:
    """Below the package, or else below the repository."""
    assert (_ROOT / name).exists() or (_ROOT.parent / name).exists()


@pytest.mark.parametrize("name", [*_CLASSES, *_FUNCTIONS])
def test_name_exists(name: str) -> None:
    """As a class, with the method where there is one, or as a function."""
    sources = [path.read_text("utf-8") for path in _ROOT.rglob("*.py")]
    first, _, method = name.partition(".")

    definition = re.compile(rf"^(class|def) {first}\b", re.MULTILINE)
    defined = [source for source in sources if definition.search(source)]
    assert defined
    assert not method or any(f"    def {method}(" in source for source in defined)


def test_every_room_is_described() -> None:
    """With a row of its own."""
    rooms = {
        path.name + ("/" if path.is_dir() else "")
        for path in _ROOT.iterdir()
        if not path.name.startswith("__") and path.name != "py.typed"
    }

    assert {each for each in rooms if f"| `{each}` |" not in _TEXT} == set()
