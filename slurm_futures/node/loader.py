"""Loads the modules of this folder in a job, as the package `slurm_futures_node`.

They come out of the bundle, which `start.py` has read; where another release of Python
runs than the client's, they are compiled one by one.
"""

from __future__ import annotations

import sys
from marshal import loads

try:  # they are there already; importlib itself takes 0.6 ms
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import SourceFileLoader
    from _imp import _fix_co_filename  # type: ignore[attr-defined]
except ImportError:  # not CPython
    from importlib.machinery import ModuleSpec, SourceFileLoader

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "slurm_futures_node"
#: What every job needs, each after what it imports: so the machinery of imports, which
#: takes longer than their code, has nothing to look for.
NEEDED = (
    "formats patience modules state streams values own_file limits calls_file usage "
    "needs runner outcomes worker"
).split()


class Finder:
    """Finds and loads the modules of the package.

    Args:
        here: the directory of their sources.
        codes: their marshalled code by name, as far as it is there.
        read_own: reads a file that others cannot have written.
    """

    def __init__(
        self, here: str, codes: dict[str, bytes], read_own: Callable[[str], bytes]
    ) -> None:
        self._here = here
        self._codes = codes
        self._read_own = read_own

    def find_spec(self, name, *_):  # type: ignore[no-untyped-def]
        """Say where a module is, if it is one of these."""
        package, _, module = name.rpartition(".")
        if package != PACKAGE:
            return None
        origin = f"{self._here}/{module}.py"
        return ModuleSpec(name, self, origin=origin)  # type: ignore[arg-type]

    def create_module(self, spec):  # type: ignore[no-untyped-def]
        """Leave it to Python."""

    def exec_module(self, module):  # type: ignore[no-untyped-def]
        """Run the code of a module."""
        name = module.__name__.rpartition(".")[2]
        module.__file__ = file = f"{self._here}/{name}.py"
        if name in self._codes:
            code = loads(self._codes[name])
            _fix_co_filename(code, file)
        else:
            # PYTHONPYCACHEPREFIX is for code that stays; this goes with the run.
            prefix, sys.pycache_prefix = sys.pycache_prefix, None
            loader = SourceFileLoader(name, file)
            loader.get_data = self._read_own  # type: ignore[method-assign,assignment]
            code = loader.get_code(name)
            sys.pycache_prefix = prefix
        exec(code, vars(module))  # noqa: S102


def run(here: str, codes: dict[str, bytes], read_own: Callable[[str], bytes]) -> None:
    """Be the job: load what it needs, and let the worker run."""
    if "functools" not in sys.modules:
        _import_pickle()
    finder = Finder(here, codes, read_own)
    sys.meta_path.append(finder)
    package = sys.modules[PACKAGE] = type(sys)(PACKAGE)
    package.__path__ = []
    for name in NEEDED:
        module = type(sys)(f"{PACKAGE}.{name}")
        module.__package__ = PACKAGE
        sys.modules[module.__name__] = module
        setattr(package, name, module)
        finder.exec_module(module)  # type: ignore[no-untyped-call]
    worker = package.worker
    try:
        exit_code = worker.main(*sys.argv[1:])
    finally:
        worker.limit_end()
    worker.leave(exit_code)


def _import_pickle() -> None:
    """Import _pickle without functools, of which all that it takes is partial.

    functools would bring collections and others along, a fifth of the start. Whoever
    imports it later gets the real one.
    """
    try:
        from _functools import partial  # type: ignore[import-not-found]
    except ImportError:  # not CPython
        return
    stand_in = type(sys)("functools")
    stand_in.partial = partial  # type: ignore[attr-defined]
    sys.modules["functools"] = stand_in
    try:
        import _pickle  # noqa: F401
    except ImportError:
        pass
    finally:
        del sys.modules["functools"]
