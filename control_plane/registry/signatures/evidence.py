"""Reading what is attached to an image, and proving it: rows, then blobs, then the pure verification in a thread.

Bounded: at most `MAX_ATTACHED` artifacts of `artifacts.MAX_LAYERS` layers of 1 MiB. Bytes are hashed once more before
they prove anything. Evidence that is damaged or gone proves nothing; a store that is away is `Unavailable`, not "no".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from common.clock import Clock
from common.digest import Digest
from common.errors import Internal, NotFound
from control_plane.blobs import BlobStore
from control_plane.database import Database
from control_plane.registry.signatures import store
from control_plane.registry.signatures.artifacts import (
    Artifact,
    Layer,
    claims_to_be_an_image,
    looks_attached,
    read_artifact,
)
from control_plane.registry.signatures.documents import document_of
from control_plane.registry.signatures.keys import Verifier
from control_plane.registry.signatures.model import Proof, TrustedKey
from control_plane.registry.signatures.store import Attached
from control_plane.registry.signatures.verification import Evidence, is_evidence, prove

MAX_ATTACHED = 64
_MAX_BLOB = 1 << 20
_MAX_HARMLESS = 4 << 20
# Verifying one image's signatures takes a thread for milliseconds; a flood of first pulls waits here.
_AT_ONCE = 4


class EvidenceReader:
    def __init__(self, database: Database, blobs: BlobStore, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def attached(self, repository_id: str, image: Digest) -> list[tuple[Attached, Artifact]]:
        async with self._database.reading() as connection:
            found = await store.attached_to(connection, repository_id, image, MAX_ATTACHED)
        return [(each, read_artifact(each.payload or b"")) for each in found]

    async def proofs(self, repository_id: str, image: Digest, keys: Sequence[TrustedKey]) -> tuple[Proof, ...]:
        """By these keys, of this image itself."""
        return await self.proofs_in(await self.attached(repository_id, image), image, keys)

    async def proofs_in(
        self, attached: Iterable[tuple[Attached, Artifact]], image: Digest, keys: Sequence[TrustedKey]
    ) -> tuple[Proof, ...]:
        if not keys:
            return ()
        async with self._turns:
            evidence = [piece for each, artifact in attached for piece in await self._evidence(each, artifact)]
            if not evidence:
                return ()
            verifiers = [Verifier.of(key) for key in keys]
            return await asyncio.to_thread(prove, image, evidence, verifiers, self._clock.now())

    async def cannot_run(self, payload: bytes) -> bool:
        """Whether no runtime can run the manifest (see `artifacts`)."""
        if not looks_attached(payload):
            return False
        if not claims_to_be_an_image(payload):
            return True
        for layer in read_artifact(payload).layers:
            data = await self._read(layer, _MAX_HARMLESS)
            if data is None or document_of(data) is None:
                return False
        return True

    async def _evidence(self, attached: Attached, artifact: Artifact) -> list[Evidence]:
        found = []
        for layer in artifact.layers:
            if is_evidence(layer.media_type) and (data := await self._read(layer, _MAX_BLOB)) is not None:
                found.append(Evidence(attached.digest, layer.media_type, data, layer.signature))
        return found

    async def _read(self, layer: Layer, longest: int) -> bytes | None:
        if not 0 < layer.size <= longest:
            return None
        try:
            async with self._blobs.open(layer.digest, layer.size) as reader:
                data = b"".join([piece async for piece in reader.read(0, layer.size)])
        except (NotFound, Internal):
            return None
        return data if Digest.of(data, layer.digest.algorithm) == layer.digest else None
