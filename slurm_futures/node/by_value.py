"""What cloudpickle does not do as a program expects it, in both directions."""

from __future__ import annotations

import io
import sys

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import Any


def refusal_of_file(file: Any) -> str:
    """Say why an open file does not travel, and what to do instead."""
    try:
        name = f" {file.name!r}"
    except Exception:  # noqa: BLE001  (of an object of the program)
        name = ""
    return (
        f"an open file ({type(file).__name__}{name}) belongs to its process, and "
        "cannot be sent to another one: send its path, and open it in the call"
    )


def dumps(cloudpickle: Any, value: Any, protocol: int) -> bytes:
    """Pickle what a call has left as cloudpickle does, but for open files."""
    known = cloudpickle.Pickler.dispatch_table

    def reduce_file(file: Any) -> Any:
        if file is sys.stdout or file is sys.stderr:
            return known[io.TextIOWrapper](file)
        raise TypeError(refusal_of_file(file))

    own = {io.TextIOWrapper: reduce_file}
    table = known.new_child(own)
    kind = type("Pickler", (cloudpickle.Pickler,), {"dispatch_table": table})
    buffer = io.BytesIO()
    kind(buffer, protocol).dump(value)
    return buffer.getvalue()
