"""The demo's image, built on the spot: about 120 MB in four layers, half of it incompressible, runnable by Docker.

Nothing is fetched: the one program inside is a hand-assembled Linux executable of 200 bytes that waits for SIGTERM, and
that exits 0 at once when it is given an argument, which makes it its own health check. On a processor that it is not
made for, the image can be spread but not run.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import platform
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.digest import Digest

_MEBIBYTE = 1 << 20
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Sample:
    """An OCI layout and what one should know of it."""

    layout: Path
    size_bytes: int
    runnable: bool


def build_sample(directory: Path, layer_mebibytes: int = 30) -> Sample:
    """Write an OCI layout with four layers of about `layer_mebibytes` each. Every call makes other bytes."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    runnable = platform.machine() == "x86_64"
    layers = [
        _layer(blobs, {"wait": (0o755, waiting_program()), "data/a": (0o644, os.urandom(layer_mebibytes * _MEBIBYTE))}),
        _layer(blobs, {"data/b": (0o644, os.urandom(layer_mebibytes * _MEBIBYTE))}),
        _layer(blobs, {"data/c": (0o644, _compressible(layer_mebibytes * 2))}),
        _layer(blobs, {"data/d": (0o644, os.urandom(layer_mebibytes * _MEBIBYTE))}),
    ]
    config = _add(blobs, json.dumps(_config([diff_id for _, diff_id in layers])).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **descriptor} for descriptor, _ in layers
        ],
    }
    described = _add(blobs, json.dumps(manifest).encode())
    index = {"schemaVersion": 2, "manifests": [{"mediaType": manifest["mediaType"], **described}]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    size = sum(int(part["size"]) for part in [config, described, *(descriptor for descriptor, _ in layers)])
    return Sample(directory, size, runnable)


def waiting_program() -> bytes:
    """A static x86-64 ELF executable: block SIGTERM and SIGINT, wait for one of them, exit 0; with arguments exit 0 at
    once.
    """
    code = bytes.fromhex(
        "48833c2401"  # cmp qword [rsp], 1        argc
        "7f2a"  # jg exit
        "b80e000000"  # mov eax, 14                rt_sigprocmask
        "31ff"  # xor edi, edi               SIG_BLOCK
        "488d3525000000"  # lea rsi, [rip+set]
        "31d2"  # xor edx, edx
        "41ba08000000"  # mov r10d, 8
        "0f05"  # syscall
        "b880000000"  # mov eax, 128               rt_sigtimedwait
        "488d3d0f000000"  # lea rdi, [rip+set]
        "31f6"  # xor esi, esi
        "31d2"  # xor edx, edx               no timeout
        "0f05"  # syscall
        "b83c000000"  # exit: mov eax, 60
        "31ff"  # xor edi, edi
        "0f05"  # syscall
    ) + struct.pack("<Q", 1 << (15 - 1) | 1 << (2 - 1))
    base, headers = 0x400000, 64 + 56
    size = headers + len(code)
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return header + segment + code


def _config(diff_ids: list[str]) -> dict[str, Any]:
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Cmd": ["/wait"],
            "Healthcheck": {
                "Test": ["CMD", "/wait", "healthy"],
                "Interval": 1_000_000_000,
                "Timeout": 5_000_000_000,
                "Retries": 3,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }


def _compressible(mebibytes: int) -> bytes:
    # Every second 512 bytes are random: gzip halves it, as it does typical binaries.
    return b"".join(os.urandom(512) + bytes(512) for _ in range(mebibytes * 1024))


def _layer(blobs: Path, files: dict[str, tuple[int, bytes]]) -> tuple[dict[str, str | int], str]:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, (mode, data) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            archive.addfile(member, io.BytesIO(data))
    diff_id = str(Digest.of(plain.getvalue()))
    return _add(blobs, gzip.compress(plain.getvalue(), compresslevel=1, mtime=0)), diff_id


def _add(blobs: Path, data: bytes) -> dict[str, str | int]:
    digest = Digest.of(data)
    (blobs / digest.hex).write_bytes(data)
    return {"digest": str(digest), "size": len(data)}
