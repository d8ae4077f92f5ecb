"""What a name of a module stands for: which code is behind it.

The code of the program's own modules is read from their files, as a job reads it, in
the form of a syntax tree: comments, line numbers and formatting are not in it.
Installed packages have a version.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import sys
import sysconfig
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from slurm_futures.calls.atoms import digest

_INSTALLED = {"site-packages", "dist-packages"}
_PATHS = sysconfig.get_paths()
_OF_PYTHON = tuple({f"{_PATHS[each]}/" for each in ("stdlib", "platstdlib")})


def describe_code(name: str) -> tuple[Any, ...]:
    """Return what is known of the code of a module that is loaded.

    Raises:
        OSError: its file cannot be read.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    if module is None or spec is None or not spec.has_location:
        return ()  # of Python itself, or a directory
    path = str(spec.origin)
    if _INSTALLED.intersection(Path(path).parts):
        return _describe_installed(name.partition(".")[0], path)
    if path.startswith(_OF_PYTHON):
        return ()  # whose version counts anyway
    content = _read(module, path)
    return (_meaning(content) if path.endswith(".py") else digest(content),)


@functools.lru_cache(maxsize=1024)
def _describe_installed(package: str, path: str) -> tuple[Any, ...]:
    return _version(package), digest(_read(sys.modules[package], path))


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


def _read(module: ModuleType, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except NotADirectoryError:  # in an archive
        return bytes(module.__spec__.loader.get_data(path))  # type: ignore[union-attr]


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
