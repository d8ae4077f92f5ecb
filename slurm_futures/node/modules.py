"""Which modules a job finds, and what `__main__` is for its calls."""

from __future__ import annotations

import os
import sys
import time

from .patience import ANSWERS, insist

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

#: Seconds between attempts to enter the directory of the client.
_PAUSES = 0.2, 0.8
#: What `__main__` is for the calls of this job, and what it was before.
main_of_calls: ModuleType | None = None
main_of_job: ModuleType | None = None
#: The thread that loads a call or the initializer; None: none does.
loading_thread: int | None = None
#: Where Python itself looks for modules, before the client's path is entered.
_start_path = sys.path[:]
#: Version of Python on the client, (3, 11); None: not known, or as here.
foreign_version: tuple[int, int] | None = None
#: Where the client's own installation is; None: this is the same one.
_foreign_prefixes: tuple[str, str] | None = None


def import_ours(name: str) -> Any:
    """Import what is needed late, whatever the calls' path has of that name."""
    if name not in sys.modules:
        path = sys.path[:]
        sys.path[:0] = _start_path
        try:
            __import__(name)
        finally:
            sys.path[:] = path
    return sys.modules[name]


def enter_context(context: dict[str, Any]) -> None:
    """Learn which Python the client has."""
    global foreign_version, _foreign_prefixes  # noqa: PLW0603  (one process, one client)
    here = (sys.prefix, sys.version_info[:2])
    foreign_version = None if here[1] == context["version"] else context["version"]
    _foreign_prefixes = None
    if here != (context["prefix"], context["version"]):
        _foreign_prefixes = (f"{context['prefix']}/", f"{context['base_prefix']}/")


def enter_directory(name: str, real_name: str) -> None:
    """Enter the directory of the client, and call it what the client does.

    Args:
        name: what the client calls it.
        real_name: the same without links. It counts where this machine does not know
            the name, or the name has come to mean another directory.

    Raises:
        OSError: it cannot be entered.
    """
    for pause in (*_PAUSES, None):
        if name != real_name and _means_another(name, real_name):
            name = real_name
        try:
            _enter(name)
        except OSError:
            if pause is None:
                raise
            time.sleep(pause)  # an automounter may need a while
        else:
            break
    os.environ["PWD"] = name  # bash had put there where the script began


def _means_another(name: str, real_name: str) -> bool:
    try:
        there = os.stat(real_name)
    except OSError:
        return False
    try:
        return not os.path.samestat(os.stat(name), there)
    except OSError:
        return True


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except (*ANSWERS, PermissionError, NotADirectoryError):
        raise  # on this node it is so
    except OSError:
        insist(os.chdir, directory)


def note_loading(thread: int | None) -> None:
    """Note which thread loads a call: what it imports must not start jobs."""
    global loading_thread  # noqa: PLW0603  (one process, one job)
    loading_thread = thread


def path_here(path: list[str]) -> list[str]:
    """Return what the client's `sys.path` is in this Python."""
    own = _foreign_prefixes
    if own is None:
        return path
    # Another Python: take over what is not the client's own installation.
    foreign = [entry for entry in path if not f"{entry}/".startswith(own)]
    return foreign + [entry for entry in _start_path if entry not in foreign]


def give_calls_a_main(script: str | None) -> None:
    """Let `__main__` be a module for what the calls bring along from the client's.

    So a call can import it, and pickle its functions and instances for processes that
    it forks.

    Args:
        script: the file of the client's; None: it has none.
    """
    global main_of_calls, main_of_job  # noqa: PLW0603  (one process, one job)
    main_of_job = sys.modules["__main__"]
    main_of_calls = type(sys)("__main__")
    # Some take a program without a file for interactive; start.py does nothing.
    main_of_calls.__file__ = script or f"{os.path.dirname(__file__)}/start.py"
    # With a name here the start method spawn of multiprocessing does not run the file:
    # a script that submits at its top level would do so in each process of a call.
    main_of_calls.__spec__ = type(sys.__spec__)("__main__", None)
    sys.modules["__main__"] = main_of_calls


def add_to_main(names: dict[str, Any]) -> None:
    """Let `__main__` of the calls have these names, if there is one."""
    if main_of_calls is not None:
        vars(main_of_calls).update(names)


def load_unpickler() -> ModuleType:
    """Return the module that unpickles what travels by value, which few jobs need."""
    import_ours("types")  # of the modules that it imports the only one not there
    from . import unpickler

    return unpickler
