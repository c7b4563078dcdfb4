"""Clients of endpoints, kept because they hold tokens, and what the attempts of this process share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from common.clock import Clock
from control_plane.registry.remote.client import RegistryClient
from control_plane.registry.remote.model import Endpoint, Patience
from control_plane.registry.replication.course import Throttle, Whereabouts
from control_plane.registry.replication.model import OtherRegistry, Rule
from control_plane.sealing import SealedBox
from control_plane.web.outbound import Outbound

_CLIENTS = 1000
_THROTTLES = 1000


class Connections:
    def __init__(
        self,
        box: SealedBox,
        outbound: Outbound,
        clock: Clock,
        random: Callable[[], float],
        patience: Patience | None = None,
    ) -> None:
        self._box = box
        self._outbound = outbound
        self._clock = clock
        self._random = random
        self._patience = patience
        self._clients: OrderedDict[tuple[str, int], RegistryClient] = OrderedDict()
        self._throttles: OrderedDict[tuple[str, int], Throttle] = OrderedDict()
        self.whereabouts = Whereabouts()

    def client(self, endpoint: OtherRegistry) -> RegistryClient:
        """Raises `SealBroken`."""
        key = (endpoint.endpoint_id, endpoint.revision)
        client = self._clients.pop(key, None)
        if client is None:
            sealed = endpoint.sealed
            password = "" if sealed is None else self._box.open(sealed, endpoint.seal_identity).decode()
            there = Endpoint(endpoint.url, endpoint.username, password, endpoint.ca_pem, endpoint.auth_hosts)
            client = RegistryClient(self._outbound, there, self._clock, self._random, self._patience)
        self._clients[key] = client
        if len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        return client

    def throttle(self, rule: Rule) -> Throttle | None:
        if rule.bytes_per_second is None:
            return None
        key = (rule.rule_id, rule.bytes_per_second)
        throttle = self._throttles.pop(key, None) or Throttle(self._clock, rule.bytes_per_second)
        self._throttles[key] = throttle
        if len(self._throttles) > _THROTTLES:
            self._throttles.popitem(last=False)
        return throttle
