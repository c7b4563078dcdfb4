"""Prove that generated protobuf code is what the .proto files give today.

`python -m tests.architecture.fresh_protos FILE...` exits with an error that names the stale files.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def stale_files(protos: list[str]) -> list[str]:
    """Generated files that are missing or differ from what protoc makes now."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--{kind}_out={folder}" for kind in ("python", "grpc_python")]
        outputs += [f"--{kind}_out=quiet:{folder}" for kind in ("mypy", "mypy_grpc")]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", ".", *outputs, *protos], check=True)
        stale = []
        for proto in protos:
            for suffix in _SUFFIXES:
                name = proto.removesuffix(".proto") + suffix
                fresh, kept = Path(folder) / name, Path(name)
                if not kept.exists() or kept.read_bytes() != fresh.read_bytes():
                    stale.append(name)
        return stale


if __name__ == "__main__":
    found = stale_files(sys.argv[1:])
    if found:
        sys.exit(f"generated code is stale, run `make proto`: {', '.join(found)}")
