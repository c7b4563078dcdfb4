"""A version of the agent as an image: `python -m deploy.agent_version LAYOUT --version 1.4.2`, then `longshore image
push LAYOUT TENANT/agent:1.4.2` and `longshore agent-rollout begin TENANT/agent:1.4.2`.

Its one layer is a directory with the program `longshore-agent` in its root. What the agent is made of is copied from
this checkout; the libraries that it needs are either the host's (of the interpreter that `--python` names), or put
beside it with `--libraries`, a directory that `pip install --target` filled. The same sources make the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from common.digest import Digest

_PACKAGES = ("agent", "common", "proto")
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
# -P: what lies in the directory where somebody starts the agent is none of its modules.
_LAUNCHER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
PYTHONPATH="$here/lib" exec {python} -P -m agent "$@"
"""


def build_version(
    directory: Path,
    version: str,
    *,
    root: Path | None = None,
    python: str = "/usr/bin/python3",
    libraries: Path | None = None,
    architecture: str = "amd64",
) -> Digest:
    """Write an OCI layout; returns the digest of the manifest. `root`: the checkout."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    sources: list[tuple[Path, Sequence[str]]] = [(root or Path(__file__).resolve().parent.parent, _PACKAGES)]
    if libraries is not None:
        sources.append((libraries, tuple(sorted(path.name for path in libraries.iterdir()))))
    archive = _archive(version, python, sources)
    layer = _add(blobs, gzip.compress(archive, 6, mtime=0))
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Labels": {"org.opencontainers.image.version": version}},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(archive))]},
    }
    described = _add(blobs, json.dumps(config, sort_keys=True).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, **described},
        "layers": [{"mediaType": _LAYER, **layer}],
        "annotations": {"org.opencontainers.image.version": version},
    }
    found = _add(blobs, json.dumps(manifest, sort_keys=True).encode())
    (directory / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [{"mediaType": _MANIFEST, **found}]})
    )
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return Digest.parse(found["digest"])


def _archive(version: str, python: str, sources: Sequence[tuple[Path, Sequence[str]]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _put(archive, "longshore-agent", _LAUNCHER.format(python=python).encode(), 0o755)
        metadata = f"Metadata-Version: 2.1\nName: longshore\nVersion: {version}\n"
        _put(archive, f"lib/longshore-{version}.dist-info/METADATA", metadata.encode(), 0o644)
        for root, names in sources:
            for path in _files(root, names):
                _put(archive, f"lib/{path.relative_to(root)}", path.read_bytes(), 0o644)
    return buffer.getvalue()


def _files(root: Path, names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        top = root / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _put(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


def _add(blobs: Path, data: bytes) -> dict[str, Any]:
    digest = Digest.of(data)
    (blobs / digest.hex).write_bytes(data)
    return {"digest": str(digest), "size": len(data)}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.agent_version", description=__doc__)
    parser.add_argument("layout", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--python", default="/usr/bin/python3", help="the hosts' interpreter [/usr/bin/python3]")
    parser.add_argument("--libraries", type=Path, help="a directory that `pip install --target` filled")
    parser.add_argument("--architecture", default="amd64", help="GOARCH word [amd64]")
    chosen = parser.parse_args(arguments)
    digest = build_version(
        chosen.layout,
        chosen.version,
        python=chosen.python,
        libraries=chosen.libraries,
        architecture=chosen.architecture,
    )
    print(f"{chosen.layout}: agent {chosen.version}, {digest}")


if __name__ == "__main__":
    main(sys.argv[1:])
