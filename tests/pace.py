"""How late an answer may come on a machine that runs other tests beside this one.

A wait that must end is held to its own deadline plus this: what is told apart is an end and no end, never a fast
machine and a busy one. How fast something is belongs to `benchmarks/`.
"""

from __future__ import annotations

from typing import Final

BUSY_SECONDS: Final = 20.0
