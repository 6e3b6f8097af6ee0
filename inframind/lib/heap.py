"""The process's heap: what large bodies took is kept, so that it is not mapped anew each time."""

import ctypes
from typing import Final

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_THRESHOLD: Final = -3

_KEPT_BYTES: Final = 256 << 20
_GROWN_BY_BYTES: Final = 16 << 20
_MAPPED_FROM_BYTES: Final = 32 << 20  # the most that glibc takes


def keep_freed() -> bool:
    """Lets freed memory be given back above 256 MiB only; says whether the C library can.

    A body of 1 MiB otherwise costs several hundred page faults, which take longer than the body
    itself. Takes effect for the whole process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(
        mallopt(parameter, value) == 1
        for parameter, value in (
            (_MMAP_THRESHOLD, _MAPPED_FROM_BYTES),
            (_TRIM_THRESHOLD, _KEPT_BYTES),
            (_TOP_PAD, _GROWN_BY_BYTES),
        )
    )
