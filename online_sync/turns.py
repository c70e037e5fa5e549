"""For how long a thread works on while others wait for its processor: readers on the same machine wait for that whenever they wake up.

Linux from 6.12 on lets a thread choose it (some milliseconds otherwise); elsewhere nothing changes. Its share of the time stays the same.
"""

import ctypes
import platform
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SET_AND_GET = {"x86_64": (314, 315), "aarch64": (274, 275)}
"""The numbers of sched_setattr and sched_getattr, which Python does not have."""
_ATTRIBUTES = struct.Struct("=24xQ16x")
_SHORT = 100_000


@contextmanager
def short() -> Iterator[None]:
    """Until the end this thread, and what it starts, works for a tenth of a millisecond at a time where others wait."""
    before = _attributes()
    if before is not None:
        _call(0, before[:24] + _SHORT.to_bytes(8, sys.byteorder) + before[32:], 0)
    try:
        yield
    finally:
        if before is not None:
            _call(0, before, 0)


def turn() -> int | None:
    """For how many nanoseconds this thread works on while others wait; None where that is not told."""
    found = _attributes()
    return None if found is None else _ATTRIBUTES.unpack(found)[0] or None


def _attributes() -> bytes | None:
    return _call(1, bytes(_ATTRIBUTES.size), _ATTRIBUTES.size, 0)


def _call(which: int, attributes: bytes, *more: int) -> bytes | None:
    """What one of the two calls leaves in the attributes of this thread; None where it is refused or not known."""
    if sys.platform != "linux" or platform.machine() not in _SET_AND_GET:
        return None
    held = ctypes.create_string_buffer(attributes, len(attributes))
    refused = ctypes.CDLL(None).syscall(_SET_AND_GET[platform.machine()][which], 0, held, *more)
    return None if refused else held.raw
