"""Who may use the open listener, and how much of it at a time: networks, requests at once, bytes a second.

Invariant: one client's limits hold for that client alone; what is refused costs no file and no thread.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from common.clock import Clock
from common.errors import Denied, Invalid, RateLimited
from common.limits import LinkRates
from common.links import Line, Pace
from regional.sending import PACE

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# A line without a transfer is forgotten when others come; what it is owed is a tenth of a second at most.
_MOST_LINES = 4096


class NetworksInvalid(Invalid):
    code = "networks_invalid"


class ClientNotAllowed(Denied):
    code = "client_not_allowed"


class TooManyRequests(RateLimited):
    code = "too_many_requests_at_once"


def networks_of(text: str) -> tuple[_Network, ...]:
    """Separated by commas or spaces. Raises `NetworksInvalid`."""
    try:
        return tuple(ipaddress.ip_network(word) for word in text.replace(",", " ").split())
    except ValueError as error:
        raise NetworksInvalid(f"allow_clients: {error}", action="write networks like 10.0.0.0/8") from error


class Admission:
    """`networks` empty: everybody. `bytes_per_second` 0: no limit."""

    def __init__(
        self, clock: Clock, networks: tuple[_Network, ...] = (), requests: int = 256, bytes_per_second: int = 0
    ) -> None:
        self._clock = clock
        self._networks = networks
        self._most = requests
        self._rates = LinkRates(bytes_per_second) if bytes_per_second else None
        self._busy: Counter[str] = Counter()
        self._lines: OrderedDict[str, Line] = OrderedDict()

    def middleware(self) -> Middleware:
        """Stands inside `serving.watch`, which turns refusals into answers."""

        @web.middleware
        async def admitted(request: web.Request, handler: _Handler) -> web.StreamResponse:
            client = request.remote or ""
            self._check(client)
            if self._rates is not None:
                request[PACE] = Pace(self._line(client, self._rates), "", lambda: False)
            self._busy[client] += 1
            try:
                return await handler(request)
            finally:
                self._busy[client] -= 1
                if not self._busy[client]:
                    del self._busy[client]

        return admitted

    def _check(self, client: str) -> None:
        if self._networks and not self._inside(client):
            raise ClientNotAllowed(
                f"{client} is in no network that may use this regional", action="see allow_clients of the regional"
            )
        if self._busy[client] >= self._most:
            raise TooManyRequests(
                f"{self._most} requests of {client} are being answered already", action="ask again when one is done"
            )

    def _inside(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)

    def _line(self, client: str, rates: LinkRates) -> Line:
        line = self._lines.pop(client, None)
        if line is None:
            line = Line(self._clock)
            line.set_rates(rates)
        self._lines[client] = line
        while len(self._lines) > _MOST_LINES:
            idle = next((each for each in self._lines if not self._busy[each]), client)
            del self._lines[idle]
        return line
