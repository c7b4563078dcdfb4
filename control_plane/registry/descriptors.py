"""Checking the parts of a manifest: objects, texts and content descriptors (image-spec descriptor.md); pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from common.digest import Digest, DigestInvalid
from control_plane.registry.failures import ManifestInvalid
from control_plane.registry.model import Descriptor

# RFC 6838 section 4.2: both names up to 127 characters.
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}")
_MAX_SIZE = (1 << 63) - 1
_MAX_URLS = 32


def object_of(value: Any, what: str) -> Mapping[str, Any]:
    """`value` itself; raises `ManifestInvalid` unless it is an object."""
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{what} is not an object", action="see the OCI image specification")
    return value


def text_map_of(value: Any, what: str) -> Mapping[str, str]:
    """`value` itself, empty if it is absent; raises `ManifestInvalid` unless it maps texts to texts."""
    if value is None:
        return {}
    found = object_of(value, what)
    if not all(isinstance(text, str) for text in found.values()):
        raise ManifestInvalid(f"{what} has a value that is not a string", action="use strings only")
    return found


def descriptor_of(value: Any, what: str) -> Descriptor:
    """Raises `ManifestInvalid` for anything that is not a whole and consistent descriptor."""
    entry = object_of(value, what)
    media_type, size = entry.get("mediaType"), entry.get("size")
    if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
        raise ManifestInvalid(f"{what}.mediaType is not a media type", action="use a media type of RFC 6838")
    # bool is an int to Python, not to JSON.
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise ManifestInvalid(f"{what}.size is not a number of bytes", action="state the content's size")
    descriptor = Descriptor(media_type, _digest(entry.get("digest"), what), size)
    text_map_of(entry.get("annotations"), f"{what}.annotations")
    _check_urls(entry.get("urls"), what)
    _check_data(entry.get("data"), descriptor, what)
    return descriptor


def _digest(value: Any, what: str) -> Digest:
    try:
        return Digest.parse(value if isinstance(value, str) else "")
    except DigestInvalid as error:
        raise ManifestInvalid(f"{what}.digest: {error.detail}", action=error.action) from error


def _check_urls(value: Any, what: str) -> None:
    if value is None:
        return
    if (
        not isinstance(value, list)
        or len(value) > _MAX_URLS
        or not all(isinstance(url, str) and url.startswith(("http://", "https://")) for url in value)
    ):
        raise ManifestInvalid(
            f"{what}.urls is not a list of http addresses", action=f"use at most {_MAX_URLS} http or https addresses"
        )


def _check_data(value: Any, descriptor: Descriptor, what: str) -> None:
    """Embedded content must be the content: a client that trusts it would run other bytes than one that fetches."""
    if value is None:
        return
    try:
        data = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except (binascii.Error, ValueError):
        data = None
    if (
        data is None
        or len(data) != descriptor.size
        or Digest.of(data, descriptor.digest.algorithm) != descriptor.digest
    ):
        raise ManifestInvalid(
            f"{what}.data is not the content of {descriptor.digest}", action="leave `data` out or embed the content"
        )
