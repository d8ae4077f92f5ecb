"""Runs worker.py, which lies beside it, from its compiled form if that is there.

    python start.py SUBMISSION INDEX

A script that Python is given is compiled anew each time, and the run directory would
be searched for each module of the standard library: this is for avoiding both.
"""

import sys

try:  # it is there already; importlib itself takes 0.6 ms
    from _frozen_importlib_external import SourceFileLoader
except ImportError:  # not CPython
    from importlib.machinery import SourceFileLoader

__file__ = f"{sys.path.pop(0)}/worker.py"
_code = SourceFileLoader("worker", __file__).get_code("worker")
exec(_code)  # type: ignore[arg-type]  # noqa: S102  (there is a file, so there is code)
