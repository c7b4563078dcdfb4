"""Which mirror a repository belongs to, and the client of its upstream: a look-up a tenant, kept for a few seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from common.clock import Clock
from control_plane.database import Database
from control_plane.registry.mirroring import store
from control_plane.registry.mirroring.model import Mirror
from control_plane.registry.recent import Recent
from control_plane.registry.remote.client import RegistryClient
from control_plane.registry.remote.model import Endpoint, Patience
from control_plane.sealing import SealedBox
from control_plane.web.outbound import Outbound

_TENANTS = 10_000
_CLIENTS = 1000
# Somebody waits for the answer: tried again less often than a background copy would be.
PATIENCE = Patience(tries=2, longest_wait_seconds=1.0, request_seconds=20.0)


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A repository of ours, and what it is called upstream."""

    mirror: Mirror
    repository: str
    there: str
    client: RegistryClient


class MirrorDirectory:
    def __init__(
        self,
        database: Database,
        box: SealedBox,
        outbound: Outbound,
        clock: Clock,
        random: Callable[[], float],
        patience: Patience = PATIENCE,
    ) -> None:
        self._database = database
        self._box = box
        self._outbound = outbound
        self._clock = clock
        self._random = random
        self._patience = patience
        self._mirrors: Recent[str, tuple[Mirror, ...]] = Recent(clock, _TENANTS)
        self._clients: OrderedDict[tuple[str, int], RegistryClient] = OrderedDict()

    async def find(self, repository: str) -> Mirrored | None:
        """None for a repository that is no mirror's. Raises `SealBroken`."""
        for mirror in await self._of(repository.partition("/")[0]):
            there = mirror.upstream_of(repository)
            if there is not None:
                return Mirrored(mirror, repository, there, self.client(mirror))
        return None

    async def covers(self, repository: str) -> Mirror | None:
        """The mirror whose name the repository has or lies beneath."""
        for mirror in await self._of(repository.partition("/")[0]):
            if f"{repository}/".startswith(f"{mirror.name}/"):
                return mirror
        return None

    def forget(self, tenant: str) -> None:
        """After a committed change."""
        self._mirrors.forget(tenant)

    def client(self, mirror: Mirror) -> RegistryClient:
        """Kept, for it holds the tokens. Raises `SealBroken`."""
        key = (mirror.mirror_id, mirror.revision)
        client = self._clients.pop(key, None)
        if client is None:
            password = "" if mirror.sealed is None else self._box.open(mirror.sealed, mirror.seal_identity).decode()
            endpoint = Endpoint(mirror.upstream.url, mirror.username, password, mirror.ca_pem, mirror.auth_hosts)
            client = RegistryClient(self._outbound, endpoint, self._clock, self._random, self._patience)
        self._clients[key] = client
        if len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        return client

    async def _of(self, tenant: str) -> tuple[Mirror, ...]:
        known = self._mirrors.get(tenant)
        if known is not None:
            return known
        begun = self._mirrors.begin()
        async with self._database.reading() as connection:
            found = await store.of_tenant(connection, tenant)
        self._mirrors.keep(tenant, found, begun)
        return found
