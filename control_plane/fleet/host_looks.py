"""What hosts say of themselves while they are attached: facts that changed are written down, samples are only kept for
a while.

Invariant: a sample never reaches the database, and losing all of them loses nothing: the next ones come within a
minute. Facts are written when they differ from those that are written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import structlog
from google.protobuf.message import DecodeError

from common.errors import NotFound, Unavailable
from control_plane.cache import Cache
from control_plane.database import Database
from control_plane.fleet import store_members
from control_plane.fleet.host_facts import recorded_facts
from control_plane.fleet.model import Host
from proto.agent.v1 import agent_pb2

log = structlog.get_logger()

# Three periods of the agent's sampling: older is no answer to "how busy is it now".
KEPT_SECONDS = 180.0
# Of a host that runs 500 instances, 60 bytes each and their ids, with room to spare.
_MOST_BYTES = 256 << 10


class SampleUnknown(NotFound):
    """Nothing was heard lately."""

    code = "sample_unknown"


@dataclass(frozen=True, slots=True)
class InstanceUse:
    """One instance's part of its host's sample; `taken_at_ms` by the host's clock."""

    taken_at_ms: int
    use: agent_pb2.InstanceSample


class HostLooks:
    """Implements `fleet.desired.HostTelling`."""

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._cache = cache

    async def facts(self, host_id: str, facts: agent_pb2.HostFacts) -> None:
        """Durable on return."""
        said: dict[str, Any] = recorded_facts(facts)
        async with self._database.reading() as connection:
            found = await store_members.find_member(connection, "host", host_id)
        if not isinstance(found, Host) or found.facts == said:
            return
        async with self._database.transaction() as unit:
            await store_members.change(unit.connection, "host", host_id, facts=said)
        log.info("host changed", member=found.label)

    async def sample(self, host_id: str, sample: agent_pb2.Sample) -> None:
        """Kept if it can be."""
        encoded = sample.SerializeToString()
        if len(encoded) > _MOST_BYTES:
            log.warning("sample too large", host=host_id, bytes=len(encoded))
            return
        try:
            await self._cache.set(_key(host_id), encoded, KEPT_SECONDS)
        except Unavailable as failure:
            log.debug("sample not kept", host=host_id, error=str(failure))

    async def latest(self, host_id: str) -> agent_pb2.Sample:
        """Raises `SampleUnknown`, `Unavailable`."""
        encoded = await self._cache.get(_key(host_id))
        sample = agent_pb2.Sample()
        if encoded is None:
            raise _nothing_heard("the host")
        try:
            sample.ParseFromString(encoded)
        except DecodeError:
            raise _nothing_heard("the host") from None
        return sample

    async def latest_of(self, host_id: str, instance_id: str) -> InstanceUse:
        """Raises `SampleUnknown`, `Unavailable`."""
        sample = await self.latest(host_id)
        for use in sample.instances:
            if use.instance_id == instance_id:
                return InstanceUse(sample.taken_at_ms, use)
        raise _nothing_heard("the instance")


def finite(number: float) -> float:
    """A host may send anything that a double can be; JSON knows neither NaN nor infinity."""
    return number if math.isfinite(number) else 0.0


def _key(host_id: str) -> str:
    return f"fleet/sample/{host_id}"


def _nothing_heard(what: str) -> SampleUnknown:
    return SampleUnknown(
        f"nothing was heard of how busy {what} is within {KEPT_SECONDS:.0f} s",
        action="see whether it runs and is attached; agents tell it once a minute",
    )
