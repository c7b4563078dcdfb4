"""What may be asked of a channel, what comes out of it, and how much of it there may be; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from common.errors import Conflict, Failure, Invalid, NotFound, RateLimited, Unavailable


class ChannelRequestInvalid(Invalid):
    """`facts["field"]` names what is wrong."""

    code = "channel_request_invalid"


class FrameMalformed(Invalid):
    """A client sent what is no frame of the protocol (docs/operations/channels.md)."""

    code = "frame_malformed"


class ChannelUnknown(NotFound):
    """Nobody waits for it (any more, or not at this replica), or the secret is wrong."""

    code = "channel_unknown"


class TooManyChannels(RateLimited):
    code = "too_many_channels"


class HostAway(Unavailable):
    """The instance's host is not attached."""

    code = "host_away"


class ChannelNotOpened(Unavailable):
    """The host was asked and did not come in time."""

    code = "channel_not_opened"


class ChannelLost(Unavailable):
    """The host's end is gone without a last word: its agent was killed, or the network broke."""

    code = "channel_lost"


class ChannelExpired(Conflict):
    """Nothing moved for too long, or it was open for as long as one may be."""

    code = "channel_expired"


class Stream(StrEnum):
    OUTPUT = "stdout"
    ERRORS = "stderr"


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """In characters."""

    columns: int = 80
    rows: int = 24


@dataclass(frozen=True, slots=True)
class LogsWanted:
    """since_ns: since 1970; 0: from the beginning. tail: at most so many last lines; None: all."""

    follow: bool = False
    since_ns: int = 0
    tail: int | None = None
    output: bool = True
    errors: bool = True


@dataclass(frozen=True, slots=True)
class CommandWanted:
    """Empty `user` and `working_directory`: the image's. Without `terminal` there is none, and two outputs."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_directory: str = ""
    terminal: TerminalSize | None = None
    input: bool = False


@dataclass(frozen=True, slots=True)
class ConsoleWanted:
    terminal: TerminalSize = TerminalSize()


@dataclass(frozen=True, slots=True)
class ExportWanted:
    """All of it as one archive."""

    with_snapshots: bool = False


Wanted = LogsWanted | CommandWanted | ConsoleWanted | ExportWanted


@dataclass(frozen=True, slots=True)
class Piece:
    """at_ns: of logs, when it was written, since 1970; 0: unknown."""

    stream: Stream
    data: bytes
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class InputTaken:
    """So many bytes of input have reached the command."""

    count: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The last word. Neither: it ended in good order and has no exit code."""

    exit_code: int | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """Counts are of all replicas. open_seconds: how long a host may take to come. idle_seconds: how long nothing may
    move. check_seconds: how often it is asked again whether the client still may.
    """

    per_host: int = 64
    per_tenant: int = 128
    per_user: int = 32
    open_seconds: float = 10.0
    idle_seconds: float = 3600.0
    longest_seconds: float = 86_400.0
    check_seconds: float = 60.0
