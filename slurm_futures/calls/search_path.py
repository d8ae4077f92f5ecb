"""Where jobs look for modules, and which modules of this program they find there.

Jobs look where this program does. Two kinds of modules they would miss all the same:
those that came from a directory which is not on `sys.path` any more, or has another
meaning there since the program changed its directory; jobs look there as well. And
those that no search can find: loaded from a file under another name, or made in memory;
what belongs to them travels by value.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

#: Directories that `sys.path` lacks, of modules to which calls refer.
_others: dict[str, None] = {}
#: What is known of modules without a parent, by their name.
_known: dict[str, tuple[ModuleType | None, bool]] = {}
#: For which `sys.path`.
_searched: list[object] = []


def search_path(entries: Sequence[object], cwd: str) -> list[str]:
    """Return where jobs look for modules: directories and archives.

    Args:
        entries: of `sys.path`, as it was when the calls were submitted.
        cwd: the directory of the program when the calls were submitted.
    """
    return list(dict.fromkeys([*_absolute(_texts(entries), cwd), *_others]))


def is_found(name: object) -> bool:
    """Whether jobs find a module that is loaded here."""
    if not isinstance(name, str):
        return True
    if _searched != sys.path:
        _known.clear()
        _searched[:] = sys.path
    top = name.partition(".")[0]
    module = sys.modules.get(top)
    known = _known.get(top)
    if known is None or known[0] is not module:
        known = _known[top] = module, _will_be_found(top, module)
    return known[1]


def _texts(entries: Sequence[object]) -> tuple[str, ...]:
    """Return the entries that Python does not pass over."""
    return tuple(each for each in entries if isinstance(each, str))


@functools.lru_cache(maxsize=16)
def _absolute(entries: tuple[str, ...], cwd: str | None) -> tuple[str, ...]:
    """Return entries of `sys.path` in full; without `cwd` those that depend on none."""
    places = []
    for entry in entries:
        # What a relative one means is settled when it is first used; only an empty
        # one, as in a notebook, is always the current directory.
        finder = sys.path_importer_cache.get(entry) if entry else None
        place = Path(getattr(finder, "path", None) or entry)
        if cwd is not None or place.is_absolute():
            # Not normalized: after a link, ".." is not what its name says.
            places.append(str(Path(cwd or "/", place)))
    return tuple(places)


def _will_be_found(name: str, module: ModuleType | None) -> bool:
    if name == "__main__" or name in sys.builtin_module_names:
        return True
    spec = getattr(module, "__spec__", None)
    home = _home(name, spec)
    if home is not None and home in _absolute(_texts(sys.path), None):
        return True
    found = _find(name)
    if found is not None and not _is_same(getattr(spec, "origin", None), found.origin):
        return False
    if home is not None and (found is None or "" in sys.path):
        _others[home] = None
    return found is not None or home is not None


def _home(name: str, spec: ModuleSpec | None) -> str | None:
    """Return where a search must begin to find a module, if any would."""
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    path = Path(spec.origin)
    if spec.submodule_search_locations is not None:
        path = path.parent
    fits = path.name.partition(".")[0] == name and path.is_absolute()
    return str(path.parent) if fits and path.exists() else None


def _find(name: str) -> ModuleSpec | None:
    for finder in sys.meta_path:
        with contextlib.suppress(Exception):  # whatever the hooks of others may raise
            spec = finder.find_spec(name, None)
            if spec is not None:
                return spec
    return None


def _is_same(here: str | None, there: str | None) -> bool:
    """Whether two origins may be one; many modules have none."""
    if here is None or there is None or here == there:
        return True
    try:
        return Path(here).samefile(there)
    except OSError:  # such as "built-in"
        return False
