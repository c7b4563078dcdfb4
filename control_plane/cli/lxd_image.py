"""`longshore image import-lxd`: files of `lxc image export` as an OCI artifact (common/lxd_image.py).

Nothing is unpacked: of the tarball only metadata.yaml is read, which stands at its beginning in what LXD itself writes.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated

import typer
import yaml
from rich.progress import Progress

from common.digest import Digest, Hasher
from common.lxd_image import (
    CONFIG,
    METADATA,
    OCI_MANIFEST,
    ROOTFS_SQUASHFS,
    ROOTFS_TAR,
    UNIFIED,
    LxdImageInvalid,
    Part,
    config_of,
    manifest_of,
)
from common.reference import Reference
from control_plane.cli.context import session_of
from control_plane.cli.image_source import BlobSource, ManifestSource
from control_plane.cli.push import push

_LARGEST_METADATA = 1 << 20
_SQUASHFS_MAGIC = b"hsqs"
_CHUNK = 1 << 20
Bars = Callable[[Progress, dict[Digest, int]], Callable[[Digest, int], None]]


def add_to(image: typer.Typer, bars: Bars) -> None:
    @image.command("import-lxd")
    def import_lxd(
        context: typer.Context,
        reference: Annotated[str, typer.Argument(help="tenant/repository:tag")],
        tarball: Annotated[Path, typer.Argument(help="A unified image, or the metadata tarball of a split one.")],
        rootfs: Annotated[Path | None, typer.Argument(help="Of a split one: the squashfs, or a tarball.")] = None,
    ) -> None:
        """Push an LXD image, as `lxc image export` wrote it; what the registry holds already is not sent again."""
        session = session_of(context)
        target = Reference.parse(reference)
        opened = open_lxd_image(tarball, rootfs)
        sizes = {blob.digest: blob.size for blob in opened.all_blobs()}
        with session.output.progress() as progress:
            digest = push(session.client, target, opened, bars(progress, sizes))
        session.output.item(
            {"reference": str(target), "digest": str(digest), "size_bytes": sum(sizes.values()), "blobs": len(sizes)},
            f"{target} pushed: {digest}",
        )


def open_lxd_image(tarball: Path, rootfs: Path | None) -> ManifestSource:
    """Raises `LxdImageInvalid` if these files are not what LXD would import."""
    architecture, properties, holds_root = _metadata_in(tarball)
    if holds_root is (rootfs is not None):
        raise LxdImageInvalid(
            f"{tarball} is a unified image and needs no other file" if holds_root else f"{tarball} has no rootfs/",
            action="give one file of a unified image, or the metadata and the root file system of a split one",
        )
    files = [(UNIFIED, tarball)] if rootfs is None else [(METADATA, tarball), (_kind_of(rootfs), rootfs)]
    layers = [(_part_of(media_type, path), path) for media_type, path in files]
    config = config_of(architecture, properties)
    described = Part(CONFIG, Digest.of(config), len(config))
    payload = manifest_of(described, tuple(part for part, _ in layers))
    blobs = [BlobSource(described.digest, described.size_bytes, lambda: io.BytesIO(config))]
    blobs += [BlobSource(part.digest, part.size_bytes, _opener(path)) for part, path in layers]
    return ManifestSource(Digest.of(payload), OCI_MANIFEST, payload, tuple(blobs))


def _metadata_in(tarball: Path) -> tuple[str, dict[str, str], bool]:
    """(architecture, properties, whether there is a rootfs/). A unified image is read only as far as both were seen."""
    text, holds_root = None, False
    try:
        with tarfile.open(tarball, "r|*") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name == "metadata.yaml" and member.isreg() and member.size <= _LARGEST_METADATA:
                    found = archive.extractfile(member)
                    text = found.read() if found is not None else None
                holds_root = holds_root or name == "rootfs" or name.startswith("rootfs/")
                if text is not None and holds_root:
                    break
    except (tarfile.TarError, EOFError, OSError) as error:
        raise LxdImageInvalid(f"{tarball} cannot be read as a tarball: {error}", action="export it again") from error
    if text is None:
        raise LxdImageInvalid(f"{tarball} has no metadata.yaml", action="give what `lxc image export` wrote")
    return *_metadata_of(text, tarball), holds_root


def _metadata_of(text: bytes, tarball: Path) -> tuple[str, dict[str, str]]:
    try:
        document = yaml.safe_load(text)
        properties = document.get("properties") or {}
        return str(document["architecture"]), {str(key): str(value) for key, value in properties.items()}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise LxdImageInvalid(
            f"metadata.yaml of {tarball} names no architecture: {error}", action="see LXD's image format"
        ) from error


def _kind_of(rootfs: Path) -> str:
    with rootfs.open("rb") as file:
        return ROOTFS_SQUASHFS if file.read(len(_SQUASHFS_MAGIC)) == _SQUASHFS_MAGIC else ROOTFS_TAR


def _part_of(media_type: str, path: Path) -> Part:
    hasher = Hasher()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return Part(media_type, hasher.digest(), hasher.size)


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")
