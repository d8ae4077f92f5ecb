"""What cloudpickle does not do as a program expects it, in both directions."""

from __future__ import annotations

import io
import sys
import types

TYPE_CHECKING = False  # importing typing would cost each job 3 ms
if TYPE_CHECKING:
    from typing import Any

#: Place of the file name among the arguments of `types.CodeType` (Python 3.11 to 3.14).
_FILE_NAME = 10


def keep_file_name(code: Any, reduced: Any) -> tuple[Any, ...]:
    """Keep it, so that tracebacks show lines; cloudpickle 3.1.3 drops it.

    Args:
        code: of a function.
        reduced: what cloudpickle makes of it.
    """
    make, arguments, *_ = reduced
    head, tail = arguments[:_FILE_NAME], arguments[_FILE_NAME + 1 :]
    # A new string: whether two are one object must not change the pickle.
    return make, (*head, "".join(code.co_filename), *tail)


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
    """Pickle what a call has left as cloudpickle does, but for files."""
    known = cloudpickle.Pickler.dispatch_table

    def reduce_file(file: Any) -> Any:
        if file is sys.stdout or file is sys.stderr:
            return known[io.TextIOWrapper](file)
        raise TypeError(refusal_of_file(file))

    def reduce_code(code: Any) -> Any:
        return keep_file_name(code, known[types.CodeType](code))

    own = {io.TextIOWrapper: reduce_file, types.CodeType: reduce_code}
    table = known.new_child(own)
    kind = type("Pickler", (cloudpickle.Pickler,), {"dispatch_table": table})
    buffer = io.BytesIO()
    kind(buffer, protocol).dump(value)
    return buffer.getvalue()
