"""An image on this computer, whatever it lies in, as an OCI manifest and blobs that can be read again and again.

Three kinds are understood: an OCI image layout (a directory or a tar of one; image-layout.md of the OCI image
specification), an archive of `docker save`, and the name of an image in the local Docker engine (which is saved to an
archive first). Layers of a Docker archive are plain tars; they are compressed on the way in, deterministically, so that
pushing the same archive twice moves nothing the second time.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from common.digest import Digest, Hasher
from common.errors import Invalid, NotFound

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
_INDEXES = {OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"}
_MAX_MANIFEST_BYTES = 4 << 20

Opener = Callable[[], IO[bytes]]


class ImageUnreadable(Invalid):
    code = "image_unreadable"


@dataclass(frozen=True)
class BlobSource:
    digest: Digest
    size: int
    open: Opener


@dataclass(frozen=True)
class ManifestSource:
    """`children` are pushed first (an index), then `blobs`, then the manifest itself."""

    digest: Digest
    media_type: str
    payload: bytes
    blobs: tuple[BlobSource, ...] = ()
    children: tuple[ManifestSource, ...] = ()

    def all_blobs(self) -> Iterator[BlobSource]:
        for child in self.children:
            yield from child.all_blobs()
        yield from self.blobs


def open_image(path: Path, scratch: Path) -> ManifestSource:
    """The image in `path`. `scratch` holds what must be unpacked or compressed; the caller removes it.

    Raises `NotFound` if there is nothing, `ImageUnreadable` if it is neither a layout nor a Docker archive.
    """
    if not path.exists():
        raise NotFound(f"there is no {path}", action="give an OCI layout, a docker save archive or an image name")
    if path.is_dir():
        return _from_layout(path)
    unpacked = scratch / "unpacked"
    unpacked.mkdir()
    try:
        with tarfile.open(path) as archive:
            # The filter refuses members that lead out of the directory (PEP 706).
            archive.extractall(unpacked, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise ImageUnreadable(f"{path} cannot be read as an archive: {error}", action="save the image again") from error
    if (unpacked / "oci-layout").exists():
        return _from_layout(unpacked)
    if (unpacked / "manifest.json").exists():
        return _from_docker_archive(unpacked, scratch)
    raise ImageUnreadable(
        f"{path} holds neither an OCI layout nor a docker save archive",
        action="make one with `docker save NAME > image.tar` or `skopeo copy ... oci:DIRECTORY`",
    )


def _from_layout(root: Path) -> ManifestSource:
    index = _object((root / "index.json").read_bytes() if (root / "index.json").is_file() else b"", "index.json")
    manifests = index.get("manifests") or []
    if len(manifests) != 1:
        raise ImageUnreadable(
            f"{root} holds {len(manifests)} images", action="give a layout with exactly one manifest or index"
        )
    return _layout_manifest(root, manifests[0], depth=0)


def _layout_manifest(root: Path, descriptor: dict[str, Any], depth: int) -> ManifestSource:
    if depth > 2:
        raise ImageUnreadable("the index is nested too deeply", action="flatten it")
    digest = _digest_of(descriptor)
    path = _layout_blob(root, digest)
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise ImageUnreadable(f"manifest {digest} is larger than 4 MiB", action="check the layout")
    payload = path.read_bytes()
    digest.verify(Digest.of(payload, digest.algorithm))
    document = _object(payload, f"manifest {digest}")
    media_type = str(document.get("mediaType") or descriptor.get("mediaType") or OCI_MANIFEST)
    if media_type in _INDEXES:
        children = tuple(_layout_manifest(root, child, depth + 1) for child in document.get("manifests", []))
        return ManifestSource(digest, media_type, payload, children=children)
    blobs = []
    for part in (document.get("config"), *document.get("layers", [])):
        blob_digest = _digest_of(part)
        blob = _layout_blob(root, blob_digest)
        blobs.append(BlobSource(blob_digest, blob.stat().st_size, _opener(blob)))
    return ManifestSource(digest, media_type, payload, _distinct(blobs))


def _from_docker_archive(root: Path, scratch: Path) -> ManifestSource:
    entries = _json(root / "manifest.json")
    if not isinstance(entries, list) or len(entries) != 1:
        raise ImageUnreadable("the archive holds several images", action="save one image at a time")
    config = _inside(root, str(entries[0]["Config"])).read_bytes()
    compressed = scratch / "layers"
    compressed.mkdir()
    layers = [
        _compress(_inside(root, str(name)), compressed / f"{number}.tar.gz")
        for number, name in enumerate(entries[0]["Layers"])
    ]
    config_digest = Digest.of(config)
    (compressed / "config").write_bytes(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": _OCI_CONFIG, "digest": str(config_digest), "size": len(config)},
        "layers": [{"mediaType": _OCI_LAYER_GZIP, "digest": str(layer.digest), "size": layer.size} for layer in layers],
    }
    payload = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
    blobs = [BlobSource(config_digest, len(config), _opener(compressed / "config")), *layers]
    return ManifestSource(Digest.of(payload), OCI_MANIFEST, payload, _distinct(blobs))


def _compress(source: Path, target: Path) -> BlobSource:
    # mtime 0 and no name make the bytes depend on the content alone. Level 1: the demo's layers take 1 s a 100 MB.
    with (
        source.open("rb") as plain,
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
    ):
        shutil.copyfileobj(plain, packed, 1 << 20)
    hasher = Hasher()
    with target.open("rb") as packed_file:
        while chunk := packed_file.read(1 << 20):
            hasher.update(chunk)
    return BlobSource(hasher.digest(), hasher.size, _opener(target))


def _object(payload: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(payload)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ImageUnreadable(f"{what} is missing or not a JSON object", action="copy the image again")
    return document


def _digest_of(descriptor: Any) -> Digest:
    if not isinstance(descriptor, dict) or "digest" not in descriptor:
        raise ImageUnreadable("the manifest lacks a descriptor or its digest", action="copy the image again")
    return Digest.parse(str(descriptor["digest"]))


def _distinct(blobs: list[BlobSource]) -> tuple[BlobSource, ...]:
    return tuple({blob.digest: blob for blob in blobs}.values())


def _opener(path: Path) -> Opener:
    return lambda: path.open("rb")


def _layout_blob(root: Path, digest: Digest) -> Path:
    path = root / "blobs" / digest.algorithm / digest.hex
    if not path.is_file():
        raise ImageUnreadable(f"the layout lacks {digest}", action="copy the image again")
    return path


def _inside(root: Path, name: str) -> Path:
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        raise ImageUnreadable(f"the archive names {name!r}, which it does not hold", action="save the image again")
    return path


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ImageUnreadable(f"{path.name} cannot be read: {error}", action="save the image again") from error
