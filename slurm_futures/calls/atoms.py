"""Encodes numbers, texts and the like so that two differ where their encodings do.

No encoding begins with another one, so that a row of them can be read in one way only.
Nothing depends on the process: not on identity, hash seed or machine.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from typing import Any

#: Longer than this, an encoding is replaced by its digest.
_SHORT = 64
_DIGEST = 32
#: What is shorter has only content of which no digest was made.
WITH_DIGEST = _DIGEST + len(b"x65:")

_pack_float = struct.Struct(">d").pack
_pack_complex = struct.Struct(">dd").pack


def digest(content: bytes | memoryview, size: int = _DIGEST) -> bytes:
    """Return what stands for content, and for no other that anybody will find."""
    return hashlib.blake2b(content, digest_size=size).digest()


def shorten(tag: bytes, content: bytes) -> bytes:
    """Encode content of a kind: as it is, or by its digest if it is long."""
    size = len(content)
    if size > _SHORT:
        content = digest(content)
    return b"%b%d:%b" % (tag, size, content)


def _encode_text(text: str) -> bytes:
    return shorten(b"s", text.encode("utf-8", "surrogatepass"))


#: By the exact type: True is no 1 here, and 1 no 1.0. Floats by their bits: -0.0 is
#: not 0.0, and NaN is itself. Hexadecimal, since long numbers are slow in others.
ATOMS: Mapping[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    type(...): lambda _: b"E",
    type(NotImplemented): lambda _: b"M",
    bool: lambda truth: b"T" if truth else b"F",
    int: lambda number: b"i%x;" % number,
    float: lambda number: b"f" + _pack_float(number),
    complex: lambda number: b"c" + _pack_complex(number.real, number.imag),
    str: _encode_text,
    bytes: lambda content: shorten(b"b", content),
    bytearray: lambda content: shorten(b"a", content),
}
