"""Stand-ins for the domains around the swarm, and rows of the fleet, for tests of swarm and instances."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update

from common.digest import Digest
from common.errors import NotFound
from common.reference import Reference
from control_plane.database import Database
from control_plane.database.outbox import outbox
from control_plane.fleet.tables import hosts, idcs, regionals
from control_plane.jobs.model import JobState
from control_plane.jobs.service import JobService
from control_plane.registry.model import Content, Descriptor, ResolvedImage

CREATED = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


class Shelf:
    """Contents and images in memory, in the registry's words."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.owned: set[tuple[str, Digest]] = set()
        self.images: dict[tuple[str, str], ResolvedImage] = {}  # by reference and architecture
        self.reads = 0
        self.chunk_bytes = 1 << 20

    def put(self, data: bytes, media_type: str = LAYER_TYPE) -> Descriptor:
        digest = Digest.of(data)
        self.blobs[digest] = data
        return Descriptor(media_type, digest, len(data))

    def put_image(
        self, reference: str, *layers: bytes, tenant_id: str = "t-acme", architecture: str = "amd64"
    ) -> ResolvedImage:
        parsed = Reference.parse(reference)
        contents = [self.put(f"config of {reference} {architecture}".encode(), CONFIG_TYPE)]
        contents += [self.put(layer) for layer in layers]
        manifest = self.put(b"|".join(str(content.digest).encode() for content in contents), MANIFEST_TYPE)
        image = ResolvedImage(parsed.repository, tenant_id, parsed.tag, manifest, tuple(contents))
        self.images[reference, architecture] = image
        return image

    async def content(self, digest: Digest) -> Content:
        data = self.blobs.get(digest)
        if data is None:
            raise NotFound(f"there is no content {digest}")

        async def read(start: int, end: int) -> AsyncGenerator[bytes, None]:
            self.reads += 1
            for at in range(start, end, self.chunk_bytes):
                yield data[at : min(at + self.chunk_bytes, end)]

        return Content(digest, len(data), LAYER_TYPE, read)

    async def owners(self, digests: Sequence[Digest]) -> Collection[tuple[str, Digest]]:
        return {pair for pair in self.owned if pair[1] in digests}

    async def resolve(
        self, reference: Reference, architecture: str = "amd64", operating_system: str = "linux"
    ) -> ResolvedImage:
        found = self.images.get((str(reference), architecture))
        if found is None:
            raise NotFound(f"there is no {reference} for {operating_system}/{architecture}")
        return found


class Running:
    """A job as its handler sees it."""

    id = "job"
    attempt = 1

    def __init__(self, payload: Mapping[str, Any] | None = None) -> None:
        self.payload = payload or {}
        self.reported: list[float] = []

    async def report(self, progress: float, note: str = "") -> None:
        self.reported.append(progress)


class Tenants:
    """A directory of tenants whose ids are `t-<name>`."""

    def __init__(self, *names: str) -> None:
        self._ids = {name: f"t-{name}" for name in names}

    async def ids_of(self, names: Collection[str]) -> Mapping[str, str]:
        return {name: self._ids[name] for name in names if name in self._ids}

    async def names_of(self, ids: Collection[str]) -> Mapping[str, str]:
        return {tenant_id: name for name, tenant_id in self._ids.items() if tenant_id in ids}


async def add_idc(database: Database, name: str) -> str:
    """Returns its id, `idc-<name>`."""
    async with database.transaction() as unit:
        row = {"id": f"idc-{name}", "name": name, "display_name": name, "created_at": CREATED}
        await unit.connection.execute(insert(idcs).values(row))
    return f"idc-{name}"


async def add_host(
    database: Database,
    idc: str,
    name: str,
    architecture: str | None = "amd64",
    labels: Mapping[str, str] | None = None,
    *,
    image_tokens: bool | None = None,
) -> str:
    """Returns its id, `host-<name>`."""
    facts = {} if architecture is None else {"architecture": architecture}
    async with database.transaction() as unit:
        row = {"id": f"host-{name}", "idc_id": f"idc-{idc}", "name": name, "created_at": CREATED, "facts": facts}
        row |= {"labels": dict(labels or {}), "image_tokens": image_tokens}
        await unit.connection.execute(insert(hosts).values(row))
    return f"host-{name}"


async def add_regional(database: Database, idc: str, name: str, *, image_tokens: bool | None = None) -> str:
    """Returns its id, `regional-<name>`."""
    async with database.transaction() as unit:
        row: dict[str, Any] = {"id": f"regional-{name}", "idc_id": f"idc-{idc}", "name": name, "created_at": CREATED}
        row["image_tokens"] = image_tokens
        await unit.connection.execute(insert(regionals).values(row))
    return f"regional-{name}"


async def revoke_host(database: Database, host_id: str) -> None:
    async with database.transaction() as unit:
        await unit.connection.execute(update(hosts).where(hosts.c.id == host_id).values(revoked_at=CREATED))


async def to_describe(jobs: JobService) -> list[tuple[str, Digest]]:
    """(tenant id, digest) of the descriptions that wait to be made."""
    waiting = await jobs.list(kind="swarm.describe", state=JobState.QUEUED)
    return [(job.payload["tenant_id"], Digest.parse(job.payload["digest"])) for job in reversed(waiting)]


async def orders_generation(database: Database, idc: str) -> int:
    async with database.reading() as connection:
        found = await connection.scalar(select(idcs.c.orders_generation).where(idcs.c.name == idc))
    assert found is not None
    return int(found)


async def announced(database: Database) -> list[str]:
    """Topics in the outbox, oldest first."""
    async with database.reading() as connection:
        return list(await connection.scalars(select(outbox.c.topic).order_by(outbox.c.id)))
