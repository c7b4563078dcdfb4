"""What TFTP tells whoever keeps a machine's boot together (timeline, verdicts); pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TftpSeen:
    """`client`: its address. `outcome`: that of a transfer (completed, probed, aborted, timed_out, replaced, failed,
    stopped), `began`, or why there was none (missing, denied, crowded, broken). `seconds` since it began.
    """

    client: str
    file: str
    outcome: str
    sent_bytes: int = 0
    resent: int = 0
    seconds: float = 0.0
    options: Mapping[str, str] = field(default_factory=dict)


Watch = Callable[[TftpSeen], None]


def nobody_watches(_: TftpSeen) -> None:
    return
