"""Lets `loader.py` load the modules beside this file, and `worker.py` run.

    python start.py SUBMISSION INDEX GRACE

A script that Python is given is compiled anew each time, so this one is short. All else
comes compiled out of a single file, the bundle: the magic number of a release of
Python, and a marshalled dict with the marshalled code of each module.
"""

import sys

_here = __file__.rpartition("/")[0]
# With python -P, -I or PYTHONSAFEPATH it is not there.
if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # before anything is imported that might be looked for in it

import os
import time
from marshal import loads

try:  # it is there already; importlib itself takes 0.6 ms
    from _frozen_importlib_external import MAGIC_NUMBER
except ImportError:  # not CPython
    MAGIC_NUMBER = b"none"  # type: ignore[misc]

#: The name of the bundle.
BUNDLE = "node.bundle"


def _insist(name: str) -> bytes:
    """Read a file beside this one, for so long as a file system may fail."""
    deadline = time.monotonic() + float((sys.argv[3:] or "0")[0])
    while True:
        try:
            return _read(name)
        except FileNotFoundError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _read(name: str) -> bytes:
    """Read it with no fstat, unlike open()."""
    content = b""
    file = os.open(f"{_here}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    while part := os.read(file, 1 << 18):
        content += part
    try:
        os.close(file)
    except OSError:  # it is closed all the same
        pass
    return content


if __name__ == "__main__":
    codes: dict[str, bytes] = {}
    try:
        bundle = _insist(BUNDLE)
        if bundle.startswith(MAGIC_NUMBER):
            codes = loads(bundle[len(MAGIC_NUMBER) :])
    except OSError:
        pass  # each module lies here, too
    compiled = codes.get("loader")
    loader = {"__name__": "loader"}
    exec(_insist("loader.py") if compiled is None else loads(compiled), loader)  # noqa: S102
    # Here is where the script is; a call may go elsewhere, and load more modules then.
    loader["run"](sys.argv[1].rpartition("/")[0], codes)  # type: ignore[operator]
