"""What those that come after a call need of its process, and it may take away.

That is what Python imports with, and the root directory. The value of the call is saved
with what there was before it. Then the process begins no more calls: they run in
another one, since nobody knows what else of it the call has changed.
"""

from __future__ import annotations

import builtins
import os
import sys

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import Any

_LISTS = "path", "meta_path", "path_hooks"
_LOST_ROOT = b"""\
slurm_futures: the call has changed the root directory (os.chroot) for good, so that \
what it returned cannot be written. Let it do that in a child process.
"""

#: Whether a call has taken something away.
damaged = False
#: The one that Python itself uses, whatever `sys.modules` is.
_modules = sys.modules
#: Names of modules that nothing works without.
_needed: tuple[str, ...] = ()
#: What there was before a call: modules, lists of `sys` and `__import__`.
_before: tuple[dict[str, Any], dict[str, list[Any]], Any] | None = None
_root: os.stat_result | None = None
#: It is open for those who are allowed to go back there.
_open_root: int | None = None


def begin() -> None:
    """Note what the job begins with."""
    global damaged, _needed, _root, _open_root  # noqa: PLW0603  (one process, one job)
    end()
    damaged = False
    _needed = tuple(name for name in _modules if name != "__main__")
    _root = os.stat("/")
    if os.geteuid() == 0:
        _open_root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def end() -> None:
    """Let no descriptor of ours be open."""
    global _open_root  # noqa: PLW0603
    if _open_root is not None and _is_root(_open_root):
        os.close(_open_root)
    _open_root = None


def remember() -> None:
    """Note what there is before a call."""
    global _before  # noqa: PLW0603
    lists = {name: list(getattr(sys, name)) for name in _LISTS}
    _before = dict(_modules), lists, builtins.__import__


def restore() -> None:
    """Put back what a call has taken away, and note that there was something."""
    global damaged, _before  # noqa: PLW0603
    before, _before = _before, None
    if before is not None and not _can_import(*before):
        damaged = True
        modules, lists, function = before
        sys.modules = _modules
        for name, module in modules.items():
            if name in _needed or name not in _modules:
                _modules[name] = module
        for name, items in lists.items():
            setattr(sys, name, items)
        builtins.__import__ = function
    if _root is not None and not _is_root("/"):
        damaged = True
        _go_back()


def _can_import(
    modules: dict[str, Any], lists: dict[str, list[Any]], function: Any
) -> bool:
    if sys.modules is not _modules:
        return False
    if any(_modules.get(name) is not modules.get(name) for name in _needed):
        return False
    for name, items in lists.items():
        now = getattr(sys, name, None)
        if now is None or any(each not in now for each in items):
            return False
    now = vars(builtins).get("__import__")
    return now is function or _works(now)


def _works(function: Any) -> bool:
    """Whether it can be used in the place of `__import__`, as some libraries do."""
    try:
        return function("sys") is sys
    except BaseException:  # noqa: BLE001  (of an object of the call)
        return False


def _is_root(file: str | int) -> bool:
    try:
        found = os.stat(file)
    except OSError:
        return False
    return _root is not None and os.path.samestat(found, _root)


def _go_back() -> None:
    """Return to the root directory where the files of the run are, or end."""
    try:
        if _open_root is not None:
            os.chdir(_open_root)
            os.chroot(".")
    except OSError:  # the call has closed it, or lost the right
        pass
    if not _is_root("/"):
        try:
            os.write(2, _LOST_ROOT)
        finally:
            os._exit(1)
