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


def read_own(path: str) -> bytes:
    """Read a file that will be executed, for so long as a file system may fail.

    Raises:
        OSError: it cannot be read, or others may have written it.
    """
    deadline = time.monotonic() + float((sys.argv[3:] or "0")[0])
    while True:
        try:
            content, status = _read(path)
            break
        except FileNotFoundError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(13, "It is not executed, since others may write it", path)
    return content


def _read(path: str) -> tuple[bytes, os.stat_result]:
    """Read it with a single fstat; open() takes more."""
    content = b""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    status = os.fstat(file)
    while part := os.read(file, 1 << 18):
        content += part
    try:
        os.close(file)
    except OSError:  # it is closed all the same
        pass
    return content, status


if __name__ == "__main__":
    codes: dict[str, bytes] = {}
    try:
        bundle = read_own(f"{_here}/{BUNDLE}")
        if bundle.startswith(MAGIC_NUMBER):
            codes = loads(bundle[len(MAGIC_NUMBER) :])
    except OSError:
        pass  # each module lies here, too
    compiled = codes.get("loader")
    loader = {"__name__": "loader"}
    code = loads(compiled) if compiled else read_own(f"{_here}/loader.py")
    exec(code, loader)  # noqa: S102
    # Here is where the script is; a call may go elsewhere, and load more modules then.
    loader["run"](sys.argv[1].rpartition("/")[0], codes, read_own)  # type: ignore[operator]
