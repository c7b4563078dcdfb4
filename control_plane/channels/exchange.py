"""Where clients and hosts meet: channels that wait for their host, and how many there are of each host, tenant and
user.

Invariant: a channel is claimed at most once, by the host it was meant for, with the secret that only that host was
told. Counts go down when the client's block is left, whatever ended it.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from common.clock import Clock
from common.errors import Unavailable
from common.identifiers import new_id
from control_plane.channels.lines import Line
from control_plane.channels.model import ChannelLimits, ChannelUnknown, Ended, TooManyChannels

LimitKind = Literal["host", "tenant on this host", "tenant", "user"]


class Exchange:
    """Of one process; `shares` counts those of all replicas."""

    def __init__(self, limits: ChannelLimits, clock: Clock) -> None:
        self.limits = limits
        self._clock = clock
        self._lines: set[Line] = set()
        self._waiting: dict[str, tuple[Line, str]] = {}
        self._counts: Counter[tuple[LimitKind, str]] = Counter()
        self._closing = False

    @property
    def open_count(self) -> int:
        return len(self._lines)

    @contextlib.contextmanager
    def line(self, host_id: str, tenant: str, user: str) -> Iterator[tuple[Line, str]]:
        """A line that waits for its host, and its secret; it has ended when the block is left. Raises
        `TooManyChannels`.
        """
        if self._closing:
            raise _stopping()
        counts, most = self._counts, _most(self.limits, host_id, tenant, user)
        for (kind, name), limit in most.items():
            if counts[kind, name] >= limit:
                raise too_many(kind, limit)
        line, secret = Line(new_id(self._clock), host_id, self.limits, self._clock), secrets.token_urlsafe(32)
        counts.update(most.keys())
        self._lines.add(line)
        self._waiting[line.id] = (line, secret)
        try:
            yield line, secret
        finally:
            line.leave()
            self._waiting.pop(line.id, None)
            self._lines.discard(line)
            counts.subtract(most.keys())
            for key in most:
                if not counts[key]:
                    del counts[key]

    def counted(self, host_id: str, tenant: str, user: str) -> dict[LimitKind, tuple[int, int]]:
        """How many there are here, and how many there may be."""
        most = _most(self.limits, host_id, tenant, user)
        return {kind: (self._counts[kind, name], limit) for (kind, name), limit in most.items()}

    def claim(self, channel_id: str, secret: str, host_id: str) -> Line:
        """Raises `ChannelUnknown`, which does not tell a wrong secret from a channel that is not there."""
        line, expected = self._waiting.get(channel_id, (None, ""))
        if line is None or line.host_id != host_id or not hmac.compare_digest(secret.encode(), expected.encode()):
            raise ChannelUnknown("nobody waits here for this channel", action="wait to be asked for another one")
        del self._waiting[channel_id]
        return line

    def close(self) -> None:
        """End all; new ones are refused from now on."""
        self._closing = True
        for line in list(self._lines):
            line.end(Ended(failure=_stopping()))


def too_many(kind: LimitKind, limit: int) -> TooManyChannels:
    return TooManyChannels(
        f"there are {limit} channels of this {kind} already", action="close one", retry_after_seconds=5
    )


def _most(limits: ChannelLimits, host_id: str, tenant: str, user: str) -> dict[tuple[LimitKind, str], int]:
    return {
        ("host", host_id): limits.per_host,
        # Whoever follows the logs of everything must not lock the host's other tenants out.
        ("tenant on this host", f"{tenant}/{host_id}"): max(1, limits.per_host // 2),
        ("tenant", tenant): limits.per_tenant,
        ("user", user): limits.per_user,
    }


def _stopping() -> Unavailable:
    return Unavailable("the control plane stops", action="open the channel again", retry_after_seconds=2.0)
