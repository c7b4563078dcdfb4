"""How a service's C heap gives memory back (mallopt(3), malloc_trim(3); glibc only, elsewhere nothing is done).

Left to itself glibc raises its thresholds to the largest block that was ever freed, up to 32 MiB, and keeps what lies
below them: a control plane that had only started kept 20 to 40 MB that way. And each thread may open a heap of its own,
whose holes no other thread fills.

Invariant: only how free memory is kept changes. Blocks up to 1 MiB, which is what contents are read in, still come from
the heap without a system call.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # <malloc.h>
# A piece of 1 MiB has Python's header before it, and stays when it is freed alone: with less, each one that is read is
# given back and faulted in again, 164 microseconds against 16.
_MAPPED_BYTES = (1 << 20) + (64 << 10)
_KEPT_BYTES = 2 << 20
_HEAPS = 2


def keep_little() -> bool:
    """Call once, before threads start. False where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    chosen = ((_ARENA_MAX, _HEAPS), (_MMAP_THRESHOLD, _MAPPED_BYTES), (_TRIM_THRESHOLD, _KEPT_BYTES))
    return all(mallopt(option, value) == 1 for option, value in chosen)
