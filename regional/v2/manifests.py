"""Manifests by tag and by digest: the centre decides while it is there, its last answer while it is away.

A tag may move at any time, so each question for one goes to the centre, as a condition (`If-None-Match`): 304 costs no
body. A digest never changes its bytes, only whether the repository has it: the centre's word on that counts for a few
minutes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from common.digest import Digest, DigestInvalid
from common.errors import Unavailable
from regional.v2.answers import Answers, KnownManifest
from regional.v2.centre import CentreRegistry, Found, Refusal, Unchanged
from regional.v2.gate import Asker
from regional.v2.links import FRESH_SECONDS, Links

log = structlog.get_logger()

_INDEXES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_IMAGES = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)


@dataclass(frozen=True, slots=True)
class Served:
    """`stale`: seconds since the centre last said so, if it could not be asked now."""

    manifest: KnownManifest
    stale: float | None = None


class Manifests:
    def __init__(self, centre: CentreRegistry, answers: Answers, links: Links) -> None:
        self._centre = centre
        self._answers = answers
        self._links = links

    async def get(self, asker: Asker, repository: str, reference: Digest | str, accept: str) -> Served | Refusal:
        """`accept`: the asker's header. Raises `CentreAway` or `CentreBusy` if only the centre can tell."""
        asker.require(repository)
        known = await self._known(repository, reference)
        entitled = asker.claim is not None or await self._links.public(repository, fresh=True)
        if isinstance(reference, Digest) and known is not None and entitled and known.age < FRESH_SECONDS:
            self._learn(asker, repository, known)
            return Served(known)
        # The centre gives clients that take no index the image for linux/amd64 out of one: another answer for the tag.
        narrow = not isinstance(reference, Digest) and _takes_images_only(accept)
        headers = asker.headers() | ({"Accept": accept} if accept else {})
        try:
            condition = None if known is None or narrow else known.digest
            answer = await self._centre.manifest(repository, reference, headers, condition)
        except Unavailable as failure:
            if known is None or not (asker.claim is not None or await self._links.public(repository, fresh=False)):
                raise
            log.warning(
                "manifest served as it was known",
                repository=repository,
                reference=str(reference),
                seconds=round(known.age),
                error=str(failure),
            )
            return Served(known, known.age)
        return await self._take(asker, repository, reference, answer, known, narrow=narrow)

    async def _known(self, repository: str, reference: Digest | str) -> KnownManifest | None:
        if isinstance(reference, Digest):
            return await asyncio.to_thread(self._answers.manifest, repository, reference)
        return await asyncio.to_thread(self._answers.tagged, repository, reference)

    async def _take(
        self,
        asker: Asker,
        repository: str,
        reference: Digest | str,
        answer: Found | Unchanged | Refusal,
        known: KnownManifest | None,
        *,
        narrow: bool,
    ) -> Served | Refusal:
        tag = None if isinstance(reference, Digest) or narrow else reference
        match answer:
            case Refusal():
                if answer.code == "MANIFEST_UNKNOWN":
                    await self._forget(repository, reference)
                return answer
            case Unchanged() if known is not None:
                await asyncio.to_thread(self._answers.confirm, repository, known.digest, tag)
                served = Served(known)
            case Found():
                await asyncio.to_thread(
                    self._answers.keep_manifest, repository, answer.digest, answer.media_type, answer.payload, tag
                )
                served = Served(KnownManifest(answer.digest, answer.media_type, answer.payload, 0.0))
            case _:
                raise AssertionError("the centre client answers Unchanged only to a condition")
        self._learn(asker, repository, served.manifest)
        return served

    async def _forget(self, repository: str, reference: Digest | str) -> None:
        if isinstance(reference, Digest):
            await asyncio.to_thread(self._answers.forget_manifest, repository, reference)
        else:
            await asyncio.to_thread(self._answers.forget_tag, repository, reference)

    def _learn(self, asker: Asker, repository: str, manifest: KnownManifest) -> None:
        self._links.learn(asker, repository, named_blobs(manifest.payload))


def named_blobs(payload: bytes) -> Sequence[Digest]:
    """What a manifest names as blobs: configuration and layers. Nothing for what is not understood: then the contents
    are asked one by one.
    """
    try:
        document: Any = json.loads(payload)
        entries = [document.get("config"), *(document.get("layers") or ()), *(document.get("blobs") or ())]
        digests = [Digest.parse(entry["digest"]) for entry in entries if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DigestInvalid):
        return ()
    return list(dict.fromkeys(digests))


def _takes_images_only(accept: str) -> bool:
    accepted = {value.partition(";")[0].strip() for value in accept.split(",")}
    return bool(accepted & _IMAGES) and not accepted & _INDEXES
