"""Lets `worker.py` run, from compiled modules if they are there.

    python start.py SUBMISSION INDEX

A script that Python is given is compiled anew each time, and the run directory would
be searched for each module of the standard library. So this file is short, and the
modules beside it come as a package out of a single file, the bundle: the magic number
of a release of Python, and a marshalled dict with the marshalled code of each module.
For other releases they are compiled one by one.
"""

import sys

_here = __file__.rpartition("/")[0]
# With python -P, -I or PYTHONSAFEPATH it is not there.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # before anything is imported that might be looked for in it

import os
from marshal import loads

try:  # they are there already; importlib itself takes 0.6 ms
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import MAGIC_NUMBER, SourceFileLoader
    from _imp import _fix_co_filename  # type: ignore[attr-defined]
except ImportError:  # not CPython
    from importlib.machinery import ModuleSpec, SourceFileLoader

    MAGIC_NUMBER = b"none"  # type: ignore[misc]

#: The package of the modules, in a job.
PACKAGE = "slurm_futures_node"
#: The name of the bundle.
BUNDLE = "node.bundle"


class _Finder:
    """Finds and loads the modules of the package."""

    def __init__(self) -> None:
        self._codes: dict[str, bytes] = {}
        content = b""
        try:  # with no fstat, unlike open()
            file = os.open(f"{_here}/{BUNDLE}", os.O_RDONLY | os.O_CLOEXEC)
            while part := os.read(file, 1 << 18):
                content += part
            os.close(file)
        except OSError:
            return
        if content.startswith(MAGIC_NUMBER):
            self._codes = loads(content[len(MAGIC_NUMBER) :])

    def find_spec(self, name, *_):  # type: ignore[no-untyped-def]
        """Say where a module is, if it is one of these."""
        package, _, module = name.rpartition(".")
        if package != PACKAGE:
            return None
        return ModuleSpec(name, self, origin=f"{_here}/{module}.py")  # type: ignore[arg-type]

    def create_module(self, spec):  # type: ignore[no-untyped-def]
        """Leave it to Python."""

    def exec_module(self, module):  # type: ignore[no-untyped-def]
        """Run the code of a module."""
        name = module.__name__.rpartition(".")[2]
        module.__file__ = file = f"{_here}/{name}.py"
        if name in self._codes:
            code = loads(self._codes[name])
            _fix_co_filename(code, file)
        else:
            # PYTHONPYCACHEPREFIX is for code that stays; this goes with the run.
            prefix, sys.pycache_prefix = sys.pycache_prefix, None
            code = SourceFileLoader(name, file).get_code(name)
            sys.pycache_prefix = prefix
        exec(code, vars(module))  # noqa: S102


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


if __name__ == "__main__":
    if "functools" not in sys.modules:
        _import_pickle()
    package = sys.modules[PACKAGE] = type(sys)(PACKAGE)
    package.__path__ = []
    sys.meta_path.append(_Finder())
    __import__(f"{PACKAGE}.worker")
    worker = sys.modules[f"{PACKAGE}.worker"]
    worker.leave(worker.main(*sys.argv[1:]))
