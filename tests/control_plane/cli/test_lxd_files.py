"""Files of `lxc image export` as OCI artifacts; nothing here needs an LXD."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from common.digest import Digest
from common.lxd_image import METADATA, ROOTFS_SQUASHFS, ROOTFS_TAR, UNIFIED, LxdImageInvalid, parts_in
from control_plane.cli.lxd_image import open_lxd_image
from tests.control_plane.cli.programs import Longshore

METADATA_YAML = b"architecture: x86_64\ncreation_date: 1\nproperties: {os: Debian, release: 12}\n"


def tarball(path: Path, mode: str = "w:gz", **files: bytes) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/").replace("_yaml", ".yaml"))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
def test_a_unified_image_is_one_layer_byte_for_byte(mode: str, tmp_path: Path) -> None:
    path = tarball(tmp_path / "image", mode, metadata_yaml=METADATA_YAML, rootfs__etc__hostname=b"x")
    image = open_lxd_image(path, None)
    (layer,) = parts_in(image.payload)
    assert (layer.media_type, layer.digest) == (UNIFIED, Digest.of(path.read_bytes()))
    config, _ = image.blobs
    with config.open() as file:
        assert json.load(file) == {
            "architecture": "amd64",
            "os": "linux",
            "type": "container",
            "properties": {"os": "Debian", "release": "12"},
        }
    assert open_lxd_image(path, None).digest == image.digest, "pushing it again moves nothing"


@pytest.mark.parametrize(("root", "kind"), [(b"hsqs...", ROOTFS_SQUASHFS), (b"\x1f\x8b...", ROOTFS_TAR)])
def test_a_split_image_is_metadata_and_root(root: bytes, kind: str, tmp_path: Path) -> None:
    metadata = tarball(tmp_path / "metadata", "w:xz", metadata_yaml=METADATA_YAML)
    (tmp_path / "rootfs").write_bytes(root)
    image = open_lxd_image(metadata, tmp_path / "rootfs")
    assert [part.media_type for part in parts_in(image.payload)] == [METADATA, kind]


def test_files_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    unified = tarball(tmp_path / "unified", metadata_yaml=METADATA_YAML, rootfs__x=b"")
    metadata = tarball(tmp_path / "metadata", metadata_yaml=METADATA_YAML)
    (tmp_path / "root").write_bytes(b"hsqs")
    with pytest.raises(LxdImageInvalid, match="needs no other file"):
        open_lxd_image(unified, tmp_path / "root")
    with pytest.raises(LxdImageInvalid, match="no rootfs"):
        open_lxd_image(metadata, None)


@pytest.mark.parametrize(
    "yaml", [b"", b"[]", b"architecture: x86_64: y", b"properties: 1", b"architecture: sparc", b"!!python/none x"]
)
def test_bad_metadata_is_refused(yaml: bytes, tmp_path: Path) -> None:
    with pytest.raises(LxdImageInvalid):
        open_lxd_image(tarball(tmp_path / "image", metadata_yaml=yaml, rootfs__x=b""), None)


def test_what_is_no_tarball_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"not a tarball at all")
    with pytest.raises(LxdImageInvalid, match="tarball"):
        open_lxd_image(tmp_path / "image", None)
    with pytest.raises(LxdImageInvalid, match=r"no metadata\.yaml"):
        open_lxd_image(tarball(tmp_path / "empty", other=b""), None)


@pytest.mark.processes
def test_an_exported_image_is_pushed_like_any_other(admin: Longshore, tmp_path: Path) -> None:
    path = tarball(tmp_path / "image.tar.gz", metadata_yaml=METADATA_YAML, rootfs__etc__hostname=b"x")
    pushed = admin("image", "import-lxd", "acme/debian:12", path, "--json")
    assert pushed.json["digest"] == str(open_lxd_image(path, None).digest)
    assert [row["repository"] for row in admin("image", "list", "--json").json] == ["acme/debian"]
    assert admin("image", "pull", "acme/debian:12", tmp_path / "copy").code == 0
    refused = admin("image", "import-lxd", "acme/debian:13", tmp_path / "copy" / "index.json")
    assert refused.code != 0
    assert "cannot be read as a tarball" in refused.err
