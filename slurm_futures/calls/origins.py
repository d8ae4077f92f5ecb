"""What a name of a module stands for: which code is behind it.

The code of the program's own modules is read from their files, as a job reads it, in
the form of a syntax tree: comments, line numbers and formatting are not in it.
Installed packages have a version.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import sys
import sysconfig
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from slurm_futures.calls.atoms import digest

_INSTALLED = {"site-packages", "dist-packages"}
_PATHS = sysconfig.get_paths()
_OF_PYTHON = tuple({f"{_PATHS[each]}/" for each in ("stdlib", "platstdlib")})


def find_spec(name: str) -> ModuleSpec | None:
    """Find a module without loading it, or a package that it is in."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent = name.rpartition(".")[0]
    if not parent:
        return importlib.util.find_spec(name)
    spec = find_spec(parent)
    if spec is None or spec.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, spec.submodule_search_locations)


def describe_code(name: str) -> tuple[Any, ...]:
    """Return what is known of the code of a module.

    Raises:
        OSError: its file cannot be read.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None or not spec.has_location:
        return ()  # of Python itself, or a directory
    if _INSTALLED.intersection(Path(spec.origin).parts):
        return _describe_installed(name, spec.origin)
    if spec.origin.startswith(_OF_PYTHON):
        return ()  # whose version counts anyway
    content = _read(spec)
    return (_meaning(content) if spec.origin.endswith(".py") else digest(content),)


@functools.lru_cache(maxsize=1024)
def _describe_installed(name: str, _: str) -> tuple[Any, ...]:
    spec = find_spec(name)
    return _version(name.partition(".")[0]), spec and digest(_read(spec))


@functools.lru_cache(maxsize=256)
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        names = sorted(set(_distributions().get(package, ())))
        return ", ".join(f"{each} {importlib.metadata.version(each)}" for each in names)


@functools.cache
def _distributions() -> Any:
    return importlib.metadata.packages_distributions()


def _read(spec: ModuleSpec) -> bytes:
    path = str(spec.origin)
    try:
        return Path(path).read_bytes()
    except NotADirectoryError:  # in an archive
        return bytes(spec.loader.get_data(path))  # type: ignore[union-attr]


@functools.lru_cache(maxsize=256)
def _meaning(source: bytes) -> bytes:
    """Return a digest of source code without what makes no difference."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the import has given them
            tree = ast.parse(source)
        if not any(map(_is_doc, ast.walk(tree))):
            while tree.body and _is_text(tree.body[0]):
                del tree.body[0]
        return digest(ast.dump(tree).encode("utf-8", "surrogatepass"))
    except RecursionError:
        return digest(source)


def _is_doc(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "__doc__"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and (
        isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )
