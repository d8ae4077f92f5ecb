"""Runs worker.py, which lies beside it, from its compiled form if that is there.

    python start.py SUBMISSION INDEX

A script that Python is given is compiled anew each time, and the run directory would
be searched for each module of the standard library: this is for avoiding both.
"""

import sys

_here = __file__.rpartition("/")[0]
if not sys.flags.safe_path:  # with python -P, -I or PYTHONSAFEPATH it is not there
    del sys.path[0]  # before anything is imported that might be looked for in it

try:  # it is there already; importlib itself takes 0.6 ms
    from _frozen_importlib_external import SourceFileLoader
except ImportError:  # not CPython
    from importlib.machinery import SourceFileLoader


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


if "functools" not in sys.modules:
    _import_pickle()
__file__ = f"{_here}/worker.py"
# PYTHONPYCACHEPREFIX is for code that stays; this is in the run, and goes with it.
_prefix, sys.pycache_prefix = sys.pycache_prefix, None
_code = SourceFileLoader("worker", __file__).get_code("worker")
sys.pycache_prefix = _prefix
exec(_code)  # type: ignore[arg-type]  # noqa: S102  (there is a file, so there is code)
