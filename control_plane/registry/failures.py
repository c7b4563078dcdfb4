"""How the registry refuses. `errors.py` holds what each becomes on `/v2/`."""

from __future__ import annotations

from collections.abc import Sequence

from common.digest import Digest
from common.errors import Conflict, Internal, Invalid, NotFound, TooLarge, Unauthenticated


class RepositoryUnknown(NotFound):
    code = "repository_unknown"


class BlobUnknown(NotFound):
    """The repository has no link to such a blob, whether or not somebody else's has."""

    code = "blob_unknown"


class ManifestUnknown(NotFound):
    code = "manifest_unknown"


class ManifestDamaged(Internal):
    """What the database holds of it does not have its digest."""

    code = "manifest_damaged"


class ManifestInvalid(Invalid):
    code = "manifest_invalid"


class ManifestTooLarge(TooLarge):
    code = "manifest_too_large"


class ContentMissing(Invalid):
    """A manifest refers to what the repository does not hold."""

    code = "content_missing"

    def __init__(self, blobs: Sequence[Digest], manifests: Sequence[Digest]) -> None:
        names = ", ".join(map(str, (*blobs, *manifests)[:3]))
        super().__init__(
            f"the manifest refers to {len(blobs) + len(manifests)} contents that the repository does not hold: {names}",
            action="push them into this repository first",
        )
        self.blobs = tuple(blobs)
        self.manifests = tuple(manifests)


class SizeInvalid(Invalid):
    """A manifest states another size than the content has."""

    code = "size_invalid"


class BlobInUse(Conflict):
    """A manifest of the repository needs the blob."""

    code = "blob_in_use"


class ContentRangeInvalid(Invalid):
    """The range of an upload's chunk is malformed or not as long as the chunk."""

    code = "content_range_invalid"


class PageInvalid(Invalid):
    code = "page_invalid"


class RequestInvalid(Invalid):
    """A parameter or header of the protocol is missing or malformed."""

    code = "request_invalid"


class Unsupported(NotFound):
    """`/v2/` has no such resource here."""

    code = "unsupported"


class MethodUnsupported(Invalid):
    """The resource does not know the method; `facts["allow"]` names those it knows."""

    code = "method_unsupported"


class TooManyTags(Invalid):
    """One push names more tags than it may."""

    code = "too_many_tags"


class UploadStalled(Invalid):
    """The client stopped sending; what arrived is kept."""

    code = "upload_stalled"


class ScopeInsufficient(Unauthenticated):
    """The registry token was not made for this; the client may ask for another one."""

    code = "scope_insufficient"
