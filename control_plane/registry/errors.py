"""The one table from failures to the answers of `/v2/` (distribution specification, "Error Codes").

    {"errors": [{"code": "BLOB_UNKNOWN", "message": ..., "detail": {"code": "blob_unknown", "action": ..., ...}}]}

`code` at the top is the specification's, which clients branch on; `detail` has our own code, what to do next, and the
facts. Codes beyond the specification's list (UNKNOWN, UNAVAILABLE, RANGE_INVALID, TAG_INVALID,
PAGINATION_NUMBER_INVALID) are those that distribution uses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from common.byte_ranges import RangeUnsatisfiable
from common.digest import DigestInvalid, DigestMismatch
from common.errors import (
    Conflict,
    Denied,
    Failure,
    Internal,
    Invalid,
    NotFound,
    QuotaExceeded,
    RateLimited,
    Stale,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from common.reference import NameInvalid, TagInvalid
from control_plane.blobs import BlobMissing, DiskFull, UploadOffsetWrong, UploadUnknown
from control_plane.registry.failures import (
    BlobUnknown,
    ContentMissing,
    ContentRangeInvalid,
    ManifestInvalid,
    ManifestUnknown,
    MethodUnsupported,
    PageInvalid,
    RepositoryUnknown,
    SizeInvalid,
    TooManyTags,
    Unsupported,
    UploadStalled,
)

MAX_ERRORS = 100


class OciError(NamedTuple):
    status: int
    code: str


OCI_ERRORS: Mapping[type[Failure], OciError] = {
    Failure: OciError(500, "UNKNOWN"),
    Invalid: OciError(400, "UNKNOWN"),
    NameInvalid: OciError(400, "NAME_INVALID"),
    TagInvalid: OciError(400, "TAG_INVALID"),
    DigestInvalid: OciError(400, "DIGEST_INVALID"),
    DigestMismatch: OciError(400, "DIGEST_INVALID"),
    ManifestInvalid: OciError(400, "MANIFEST_INVALID"),
    ContentMissing: OciError(400, "MANIFEST_BLOB_UNKNOWN"),
    SizeInvalid: OciError(400, "SIZE_INVALID"),
    PageInvalid: OciError(400, "PAGINATION_NUMBER_INVALID"),
    TooManyTags: OciError(414, "TAG_INVALID"),
    ContentRangeInvalid: OciError(416, "RANGE_INVALID"),
    RangeUnsatisfiable: OciError(416, "RANGE_INVALID"),
    MethodUnsupported: OciError(405, "UNSUPPORTED"),
    UploadStalled: OciError(408, "BLOB_UPLOAD_INVALID"),
    Unauthenticated: OciError(401, "UNAUTHORIZED"),
    Denied: OciError(403, "DENIED"),
    NotFound: OciError(404, "UNKNOWN"),
    RepositoryUnknown: OciError(404, "NAME_UNKNOWN"),
    BlobUnknown: OciError(404, "BLOB_UNKNOWN"),
    BlobMissing: OciError(404, "BLOB_UNKNOWN"),
    ManifestUnknown: OciError(404, "MANIFEST_UNKNOWN"),
    UploadUnknown: OciError(404, "BLOB_UPLOAD_UNKNOWN"),
    Unsupported: OciError(404, "UNSUPPORTED"),
    Conflict: OciError(409, "DENIED"),
    UploadOffsetWrong: OciError(416, "RANGE_INVALID"),
    Stale: OciError(412, "UNKNOWN"),
    TooLarge: OciError(413, "SIZE_INVALID"),
    # Clients show the message of a DENIED; a 413 they would take for a limit of a proxy.
    QuotaExceeded: OciError(403, "DENIED"),
    RateLimited: OciError(429, "TOOMANYREQUESTS"),
    Unavailable: OciError(503, "UNAVAILABLE"),
    # Not 503: clients repeat that at once, and the disk will not be less full.
    DiskFull: OciError(507, "UNAVAILABLE"),
    Internal: OciError(500, "UNKNOWN"),
}


def oci_error_of(kind: type[Failure]) -> OciError:
    """The row of the class, or of the nearest class that it derives from."""
    return next(OCI_ERRORS[ancestor] for ancestor in kind.__mro__ if ancestor in OCI_ERRORS)


def body_of(failure: Failure) -> bytes:
    return json.dumps({"errors": _errors_of(failure)}, separators=(",", ":")).encode()


def headers_of(failure: Failure) -> dict[str, str]:
    """What the status obliges us to send beside the body."""
    if isinstance(failure, RateLimited | Unavailable):
        return {"Retry-After": str(max(1, math.ceil(failure.retry_after_seconds)))}
    if isinstance(failure, RangeUnsatisfiable):
        return {"Content-Range": f"bytes */{failure.facts['size']}"}
    if isinstance(failure, MethodUnsupported):
        return {"Allow": str(failure.facts["allow"])}
    return {}


def _errors_of(failure: Failure) -> list[dict[str, Any]]:
    if isinstance(failure, ContentMissing):
        missing = [("MANIFEST_BLOB_UNKNOWN", "blob", digest) for digest in failure.blobs]
        missing += [("MANIFEST_UNKNOWN", "manifest", digest) for digest in failure.manifests]
        return [
            {
                "code": code,
                "message": f"{thing} unknown to the repository",
                "detail": {"code": failure.code, "digest": str(digest), "action": failure.action},
            }
            for code, thing, digest in missing[:MAX_ERRORS]
        ]
    detail: dict[str, Any] = {**failure.facts, "code": failure.code}
    if failure.action:
        detail["action"] = failure.action
    return [{"code": oci_error_of(type(failure)).code, "message": failure.detail, "detail": detail}]
