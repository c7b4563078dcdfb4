"""Who takes part when the registry's state changes: quota, collection, retention, audit, and whoever comes later.

The registry itself knows none of them. A `Participant` is called inside the transaction that makes the change, so what
it writes commits or fails together with it; raising refuses the change. An `UploadMeter` lets bytes in, a `PullGate`
lets images out, a `Keeper` knows what is about to go, `Upstreams` bring what is not here. `app` hands all of them in as
`Hooks`.

Order: participants are called in the order of `Hooks.participants`, refusers first. They run under the transaction's
row locks: no network, no files, no waiting.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from common.digest import Digest
from control_plane.database import UnitOfWork
from control_plane.registry.manifests import ParsedManifest
from control_plane.registry.model import Manifest, Repository, Upload
from control_plane.tenants.access import Principal


class Participant:
    """Override what concerns you. `by` is who does it, None for a periodic job."""

    async def repository_made(self, unit: UnitOfWork, repository: Repository, by: Principal | None) -> None: ...

    async def repository_removed(self, unit: UnitOfWork, repository: Repository) -> None:
        """It holds no manifest; its links and rows go in this transaction."""

    async def blob_linked(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int, by: Principal | None
    ) -> None:
        """The repository did not see this blob before."""

    async def blob_relied_on(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, by: Principal | None
    ) -> None:
        """The repository links the blob already. A client that has it was told so, and will not send it (again): it
        counts on the link until its manifest is pushed.
        """

    async def blob_unlinked(self, unit: UnitOfWork, repository: Repository, digest: Digest, size: int) -> None: ...

    async def manifest_added(
        self,
        unit: UnitOfWork,
        repository: Repository,
        manifest: Manifest,
        parsed: ParsedManifest,
        by: Principal | None,
    ) -> None:
        """The repository did not hold this manifest before; it is in its tables already."""

    async def manifest_removing(
        self, unit: UnitOfWork, repository: Repository, digest: Digest, tags: Sequence[str], by: Principal | None
    ) -> None:
        """Before the manifest's rows go; `tags` name it and go with it."""

    async def tag_changing(
        self,
        unit: UnitOfWork,
        repository: Repository,
        tag: str,
        before: Digest | None,
        after: Digest | None,
        by: Principal | None,
    ) -> None:
        """Before the tag means `after` (None: before it goes). Not called when it already means that."""

    def pulled(self, repository: str, manifest: Manifest, by: Principal) -> None:
        """A manifest was handed out by GET. Outside of any transaction, on the hottest path: only note it."""


class UploadMeter(Protocol):
    """What stands between a client and the store while a blob is uploaded."""

    def metered(
        self, upload: Upload, offset: int, chunks: AsyncIterator[bytes], declared: int | None, digest: Digest | None
    ) -> AsyncIterator[bytes]:
        """`chunks`, as far as there is room for them: raises `QuotaExceeded` before it hands out a byte too many, and
        before it takes the first one if the client declares too many. `declared` is how many bytes the client says
        will come, `digest` what it says the whole upload is.
        """
        ...

    async def closed(self, unit: UnitOfWork, upload_ids: Sequence[str]) -> None:
        """These uploads ended in this transaction, in whichever way. Unknown ids are harmless."""
        ...


class PullGate(Protocol):
    async def admit(self, principal: Principal, repository: str, manifest: Manifest) -> None:
        """Raises `Denied` if a policy forbids handing out the manifest. At most one cached look-up."""
        ...


class Keeper(Protocol):
    """Who knows what is on its way out. Reads by itself, outside of any transaction."""

    async def is_leaving(self, repository: str, digest: Digest) -> bool:
        """Whether the repository's link to the blob may end soon, unless `Participant.blob_relied_on` is called."""
        ...

    async def former_manifest(self, digest: Digest) -> Manifest | None:
        """A manifest that was deleted and is still kept."""
        ...


class Incoming(Protocol):
    """A blob that is on its way here while somebody reads it."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """As the bytes arrive. The last of them come only after the whole blob was verified and is ours; raises
        instead if that fails, so that a part or a false blob never looks like success.
        """
        ...


class Upstreams(Protocol):
    """Who fetches from elsewhere what a repository does not hold yet. Asked after the principal's right was checked;
    for a repository that is no mirror each is at most one cached look-up and changes nothing.
    """

    async def check_push(self, by: Principal, repository: str) -> None:
        """Raises `Denied` if what the repository holds comes from elsewhere only."""
        ...

    async def refresh_tag(self, repository: str, tag: str) -> None:
        """Before a tag is read: make it mean what it means upstream. Raises `Unavailable` and the like only if there
        is nothing to serve instead.
        """
        ...

    async def fetch_manifest(self, repository: str, digest: Digest) -> bool:
        """After it was not found: whether it is here now."""
        ...

    async def tag_names(self, repository: str) -> Sequence[str]:
        """What is tagged upstream, in byte order, pulled before or not; empty if it cannot be asked while the
        repository is here. Raises `Unavailable` and the like only if it is not.
        """
        ...

    async def bring_referrers(self, repository: str, subject: Digest) -> None:
        """Before what refers to a manifest is listed: fetch the manifests of what does upstream. Raises `Unavailable`
        and the like only if nothing that refers to it is here.
        """
        ...

    async def bring_evidence(self, repository: str, image: Digest) -> bool:
        """What upstream has of signatures of an image, with their blobs, under the tags that cosign gives them too.
        Whether somebody was asked, so that looking again may find more. Raises `Unavailable` and the like.
        """
        ...

    async def blob_size(self, repository: str, digest: Digest) -> int | None:
        """Of a blob that the repository does not link; None if there is none upstream."""
        ...

    async def bring(self, repository: str, digests: Sequence[Digest]) -> None:
        """Fetch blobs that the repository does not link. Raises `Unavailable` if that takes longer than a request may:
        it goes on, and asking again later finds them.
        """
        ...

    def blob(self, repository: str, digest: Digest) -> AbstractAsyncContextManager[Incoming | None]:
        """A blob that the repository does not link (or did not a moment ago): begin to fetch it, or join who does.
        None if there is nothing to wait for: it has come meanwhile, or there is none.
        """
        ...


class Unmetered:
    """No limits."""

    def metered(
        self, upload: Upload, offset: int, chunks: AsyncIterator[bytes], declared: int | None, digest: Digest | None
    ) -> AsyncIterator[bytes]:
        return chunks

    async def closed(self, unit: UnitOfWork, upload_ids: Sequence[str]) -> None: ...


class OpenGate:
    """No policy."""

    async def admit(self, principal: Principal, repository: str, manifest: Manifest) -> None: ...


class NoUpstreams:
    """Everything is pushed."""

    async def check_push(self, by: Principal, repository: str) -> None: ...

    async def refresh_tag(self, repository: str, tag: str) -> None: ...

    async def fetch_manifest(self, repository: str, digest: Digest) -> bool:
        return False

    async def tag_names(self, repository: str) -> Sequence[str]:
        return ()

    async def bring_referrers(self, repository: str, subject: Digest) -> None: ...

    async def bring_evidence(self, repository: str, image: Digest) -> bool:
        return False

    async def blob_size(self, repository: str, digest: Digest) -> int | None:
        return None

    async def bring(self, repository: str, digests: Sequence[Digest]) -> None: ...

    @contextlib.asynccontextmanager
    async def blob(self, repository: str, digest: Digest) -> AsyncIterator[Incoming | None]:
        yield None


class NothingLeaves:
    """Nothing is collected."""

    async def is_leaving(self, repository: str, digest: Digest) -> bool:
        return False

    async def former_manifest(self, digest: Digest) -> Manifest | None:
        return None


@dataclass(frozen=True, slots=True)
class Hooks:
    participants: Sequence[Participant] = ()
    meter: UploadMeter = field(default_factory=Unmetered)
    gate: PullGate = field(default_factory=OpenGate)
    keeper: Keeper = field(default_factory=NothingLeaves)
    upstreams: Upstreams = field(default_factory=NoUpstreams)
