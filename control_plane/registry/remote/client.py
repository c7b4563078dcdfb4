"""Reading from a registry: manifests, tags, referrers, blobs (distribution specification 1.1, "Pull", "Content
Discovery").
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from urllib.parse import quote, urlencode

import aiohttp

from common.clock import Clock
from common.digest import Digest, DigestInvalid
from common.errors import NotFound
from common.reference import TagInvalid, check_tag
from control_plane.registry.descriptors import descriptor_of
from control_plane.registry.failures import ManifestInvalid
from control_plane.registry.manifests import DOCKER_LIST, DOCKER_MANIFEST, MAX_BYTES, OCI_INDEX, OCI_MANIFEST
from control_plane.registry.model import Descriptor
from control_plane.registry.remote.bodies import as_json, read_body
from control_plane.registry.remote.downloads import Download
from control_plane.registry.remote.failures import RemoteMissing, RemoteUntrue
from control_plane.registry.remote.model import Endpoint, Patience, RemoteManifest
from control_plane.registry.remote.pushing import Pushing
from control_plane.registry.remote.transport import Transport
from control_plane.web.outbound import Outbound

ACCEPT = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
_MAX_LISTING = 8 << 20
_MAX_PAGES = 10_000
_MAX_PAGES_OF_REFERRERS = 100
# Specification, "Pulling manifests": the grammar of `<name>`.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"(?=.{{1,255}}\Z){_COMPONENT}(?:/{_COMPONENT})*")
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*rel="?next"?', re.IGNORECASE)


class RegistryClient:
    """One registry; holds its tokens, so keep it. `random` returns floats in [0, 1).

    Every method raises the failures of this package, and of the way there `AddressRefused`, `TargetAway`.
    """

    def __init__(
        self,
        outbound: Outbound,
        endpoint: Endpoint,
        clock: Clock,
        random: Callable[[], float],
        patience: Patience | None = None,
    ) -> None:
        self._transport = Transport(outbound, endpoint, clock, random, patience or Patience())
        self.push = Pushing(self._transport)

    @property
    def host(self) -> str:
        return self._transport.endpoint.host

    async def ping(self) -> None:
        """Succeeds if there is a registry that lets us in."""
        async with self._transport.exchange("GET", "/v2/", ""):
            pass

    async def manifest(self, repository: str, reference: str | Digest) -> RemoteManifest:
        """Verified. Raises `RemoteMissing`, `RemoteUntrue`."""
        path = f"/v2/{repository}/manifests/{reference}"
        async with self._transport.exchange("GET", path, _pull(repository), headers={"Accept": ACCEPT}) as answer:
            payload = await read_body(answer, MAX_BYTES, self.host)
        named = reference if isinstance(reference, Digest) else self._named(answer)
        digest = Digest.of(payload, named.algorithm if named is not None else "sha256")
        if named is not None and digest != named:
            raise self._untrue(f"its manifest {repository}:{reference} is {digest}, not {named}")
        return RemoteManifest(digest, _media_type(answer), payload)

    async def manifest_digest(self, repository: str, reference: str | Digest) -> Digest | None:
        """What a tag means, without its manifest; None if the registry does not say. Raises `RemoteMissing`."""
        path = f"/v2/{repository}/manifests/{reference}"
        async with self._transport.exchange("HEAD", path, _pull(repository), headers={"Accept": ACCEPT}) as answer:
            return self._named(answer)

    async def meaning(self, repository: str, reference: str | Digest) -> Digest | None:
        """The manifest that it names; None if there is none."""
        try:
            named = await self.manifest_digest(repository, reference)
            return named or (await self.manifest(repository, reference)).digest
        except RemoteMissing:
            return None

    async def blob_size(self, repository: str, digest: Digest) -> int | None:
        """None if the registry has no such blob."""
        path = f"/v2/{repository}/blobs/{digest}"
        try:
            async with self._transport.exchange("HEAD", path, _pull(repository)) as answer:
                size = answer.headers.get("Content-Length", "")
        except RemoteMissing:
            return None
        if not size.isdigit():
            raise self._untrue(f"it does not say how long blob {digest} is")
        return int(size)

    @contextlib.asynccontextmanager
    async def download(
        self, repository: str, digest: Digest, start: int = 0, *, verify: bool = True
    ) -> AsyncIterator[Download]:
        """A blob from `start` on: its size is known when this is entered, its bytes come from `Download.pieces`.
        `verify` false: whoever takes the bytes hashes them anyway.
        """
        async with Download(self._transport, repository, digest, start, verify=verify) as opened:
            yield opened

    async def tags(self, repository: str, page: int = 1000) -> AsyncIterator[str]:
        """Every tag in the registry's order; names that are no tags are left out."""
        path = f"/v2/{repository}/tags/list?{urlencode({'n': page})}"
        for _ in range(_MAX_PAGES):
            async with self._transport.exchange("GET", path, _pull(repository)) as answer:
                document = as_json(await read_body(answer, _MAX_LISTING, self.host), self.host)
            names = document.get("tags") or []
            if not isinstance(names, list):
                raise self._untrue(f"its list of the tags of {repository} is none")
            for name in names:
                if isinstance(name, str) and _is_tag(name):
                    yield name
            link = _NEXT.search(answer.headers.get("Link", ""))
            if link is None or not names:
                return
            path = link[1]
        raise self._untrue(f"its list of the tags of {repository} does not end")

    async def repositories(self, page: int = 1000) -> AsyncIterator[str]:
        """Every repository that the registry shows us; many show none. Names that are none are left out."""
        path = f"/v2/_catalog?{urlencode({'n': page})}"
        for _ in range(_MAX_PAGES):
            async with self._transport.exchange("GET", path, "registry:catalog:*") as answer:
                document = as_json(await read_body(answer, _MAX_LISTING, self.host), self.host)
            names = document.get("repositories") or []
            if not isinstance(names, list):
                raise self._untrue("its list of repositories is none")
            for name in names:
                if isinstance(name, str) and _REPOSITORY.fullmatch(name):
                    yield name
            link = _NEXT.search(answer.headers.get("Link", ""))
            if link is None or not names:
                return
            path = link[1]
        raise self._untrue("its list of repositories does not end")

    async def referrers(self, repository: str, digest: Digest, artifact_type: str | None = None) -> list[Descriptor]:
        """What refers to a manifest; from the tag of the fallback scheme where the registry has no referrers API.

        All types are given if the registry does not filter: look at the manifests.
        """
        query = "?" + urlencode({"artifactType": artifact_type}) if artifact_type else ""
        path = f"/v2/{repository}/referrers/{digest}{query}"
        found: list[Descriptor] = []
        for _ in range(_MAX_PAGES_OF_REFERRERS):
            try:
                async with self._transport.exchange(
                    "GET", path, _pull(repository), headers={"Accept": OCI_INDEX}
                ) as answer:
                    payload = await read_body(answer, _MAX_LISTING, self.host)
            except RemoteMissing:
                return await self._tagged_referrers(repository, digest)
            entries = self._referrers_in(payload, digest)
            found += entries
            link = _NEXT.search(answer.headers.get("Link", ""))
            if link is None or not entries:
                return found
            path = link[1]
        raise self._untrue(f"its list of referrers of {digest} does not end")

    async def _tagged_referrers(self, repository: str, digest: Digest) -> list[Descriptor]:
        try:
            payload = (await self.manifest(repository, f"{digest.algorithm[:32]}-{digest.hex[:64]}")).payload
        except NotFound:
            return []
        return self._referrers_in(payload, digest)

    def _referrers_in(self, payload: bytes, subject: Digest) -> list[Descriptor]:
        entries = as_json(payload, self.host).get("manifests")
        try:
            return [descriptor_of(entry, "manifests") for entry in (entries if isinstance(entries, list) else [])]
        except ManifestInvalid as failure:
            raise self._untrue(f"its list of referrers of {subject} is malformed: {failure.detail}") from failure

    async def delete(self, repository: str, kind: str, reference: str | Digest) -> bool:
        """`kind` is `manifests` or `blobs`. Whether there was one. Raises `RemoteRejected` where it is not allowed."""
        scope = f"repository:{repository}:pull,push,delete"
        path = f"/v2/{repository}/{kind}/{quote(str(reference), safe=':')}"
        async with self._transport.exchange("DELETE", path, scope, (200, 202, 204, 404)) as answer:
            return answer.status != 404

    def _named(self, answer: aiohttp.ClientResponse) -> Digest | None:
        text = answer.headers.get("Docker-Content-Digest")
        if text is None:
            return None
        try:
            return Digest.parse(text)
        except DigestInvalid as failure:
            raise self._untrue(f"it names a manifest by {text[:80]!r}") from failure

    def _untrue(self, why: str) -> RemoteUntrue:
        return RemoteUntrue(f"{self.host} is not to be trusted here: {why}", action="check that registry")


def _pull(repository: str) -> str:
    return f"repository:{repository}:pull"


def _media_type(answer: aiohttp.ClientResponse) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _is_tag(name: str) -> bool:
    try:
        return check_tag(name) == name
    except TagInvalid:
        return False
