"""Every failure has its row, and every answer is the specification's body."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator

import pytest

import control_plane.blobs
import control_plane.registry
from common.byte_ranges import RangeUnsatisfiable
from common.digest import Digest
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
from control_plane.blobs import DiskFull
from control_plane.registry.errors import OCI_ERRORS, body_of, headers_of, oci_error_of
from control_plane.registry.failures import ContentMissing, MethodUnsupported

FAMILIES: dict[type[Failure], set[int]] = {
    Invalid: {400, 405, 408, 414, 416},
    Unauthenticated: {401},
    Denied: {403},
    NotFound: {404},
    Conflict: {409, 416},
    Stale: {412},
    TooLarge: {413},
    QuotaExceeded: {403},
    RateLimited: {429},
    Unavailable: {503, 507},
    Internal: {500},
}
# distribution-spec, "Error Codes", and those that distribution has beyond it.
SPECIFIED = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
}
BEYOND = {"UNKNOWN", "UNAVAILABLE", "RANGE_INVALID", "TAG_INVALID", "PAGINATION_NUMBER_INVALID"}


def every_failure() -> list[type[Failure]]:
    for package in (control_plane.blobs, control_plane.registry):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    return sorted(_subclasses(Failure), key=lambda kind: kind.__qualname__)


def _subclasses(kind: type[Failure]) -> Iterator[type[Failure]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


@pytest.mark.parametrize("kind", every_failure(), ids=lambda kind: kind.__name__)
def test_every_failure_has_a_row_that_fits_its_family(kind: type[Failure]) -> None:
    status, code = oci_error_of(kind)
    family = next((family for family in FAMILIES if issubclass(kind, family)), None)
    if family is not None:
        assert status in FAMILIES[family]
    assert code in SPECIFIED | BEYOND


def test_every_root_has_a_row_of_its_own() -> None:
    assert set(FAMILIES) <= set(OCI_ERRORS)


def test_the_body_is_the_specifications() -> None:
    failure = DiskFull("no room", action="free some", retry_after_seconds=29.5, free=7)
    assert json.loads(body_of(failure)) == {
        "errors": [
            {
                "code": "UNAVAILABLE",
                "message": "no room",
                "detail": {"code": "disk_full", "action": "free some", "free": 7},
            }
        ]
    }
    assert headers_of(failure) == {"Retry-After": "30"}


def test_each_missing_content_has_its_error_up_to_a_bound() -> None:
    blobs = [Digest.of(str(number).encode()) for number in range(150)]
    errors = json.loads(body_of(ContentMissing(blobs[:1], blobs[1:2])))["errors"]
    assert [error["code"] for error in errors] == ["MANIFEST_BLOB_UNKNOWN", "MANIFEST_UNKNOWN"]
    assert errors[0]["detail"]["digest"] == str(blobs[0])
    assert len(json.loads(body_of(ContentMissing(blobs, [])))["errors"]) == 100


def test_statuses_bring_their_headers() -> None:
    assert headers_of(RangeUnsatisfiable("x", size=10)) == {"Content-Range": "bytes */10"}
    assert headers_of(MethodUnsupported("x", allow="GET, HEAD")) == {"Allow": "GET, HEAD"}
    assert headers_of(NotFound("x")) == {}
