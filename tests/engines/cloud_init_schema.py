"""cloud-init's own schema of cloud-config, from Debian's package, which is only unpacked by `python -m
tests.engines.install answers`: installed, it would configure the machine that the tests run on.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.engines import EngineCannotRun

_STORE = Path("/var/cache/longshore-tests/cloud-init")
_NAME = "schema-cloud-config-v1.json"


def install(apt_get: Callable[..., None]) -> None:
    """Blocking; needs the network. `apt_get(*arguments, cwd=...)` runs apt-get."""
    _STORE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_STORE) as folder:
        apt_get("-o", "APT::Sandbox::User=root", "download", "cloud-init", cwd=folder)
        [package] = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, f"{folder}/files"], check=True)
        [found] = Path(folder).glob(f"files/**/{_NAME}")
        found.rename(_STORE / _NAME)


def installed() -> bool:
    return (_STORE / _NAME).exists()


def schema() -> dict[str, Any]:
    """What it does not know is an error at the top of a document. Raises `EngineCannotRun`."""
    if not installed():
        raise EngineCannotRun("there is no schema; run `python -m tests.engines.install answers`")
    found: dict[str, Any] = json.loads((_STORE / _NAME).read_text())
    return found
