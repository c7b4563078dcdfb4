"""LXD images as OCI artifacts: what a manifest may name."""

from __future__ import annotations

import json

import pytest

from common.digest import Digest
from common.lxd_image import (
    CONFIG,
    METADATA,
    ROOTFS_SQUASHFS,
    ROOTFS_TAR,
    UNIFIED,
    LxdImageInvalid,
    Part,
    config_of,
    manifest_of,
    parts_in,
)


def part(media_type: str) -> Part:
    return Part(media_type, Digest.of(media_type.encode()), 7)


@pytest.mark.parametrize("kinds", [(UNIFIED,), (METADATA, ROOTFS_SQUASHFS), (METADATA, ROOTFS_TAR)])
def test_a_manifest_names_the_files_in_the_order_of_the_fingerprint(kinds: tuple[str, ...]) -> None:
    parts = tuple(map(part, kinds))
    assert parts_in(manifest_of(part(CONFIG), parts)) == parts


@pytest.mark.parametrize("kinds", [(), (METADATA,), (ROOTFS_TAR, METADATA), (UNIFIED, ROOTFS_TAR), ("application/x",)])
def test_other_files_make_no_image(kinds: tuple[str, ...]) -> None:
    with pytest.raises(LxdImageInvalid):
        manifest_of(part(CONFIG), tuple(map(part, kinds)))


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"layers": 1}', b'{"layers": [{}], "config": {}}'])
def test_what_is_no_manifest_is_refused(payload: bytes) -> None:
    with pytest.raises(LxdImageInvalid):
        parts_in(payload)


def test_an_ordinary_image_is_refused() -> None:
    document = json.loads(manifest_of(part(CONFIG), (part(UNIFIED),)))
    document["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    with pytest.raises(LxdImageInvalid, match="not that of an LXD image"):
        parts_in(json.dumps(document).encode())


def test_a_config_speaks_of_platforms_as_oci_does() -> None:
    document = json.loads(config_of("x86_64", {"os": "Debian"}))
    assert (document["architecture"], document["os"]) == ("amd64", "linux")
    with pytest.raises(LxdImageInvalid, match="sparc"):
        config_of("sparc", {})
