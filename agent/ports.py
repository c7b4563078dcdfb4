"""The ports this host listened on last: engines and peers remember them, so the next process asks for the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from common.durable import write_file

_NAMES = ("mirror", "peer_port", "metrics")


def last_ports(directory: Path) -> Mapping[str, int]:
    """Empty where nothing, or nothing whole, was remembered."""
    try:
        document = json.loads((directory / "ports.json").read_bytes())
        return {name: document[name] for name in _NAMES if 0 < int(document.get(name, 0)) < 1 << 16}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def remember_ports(directory: Path, **ports: int) -> None:
    """Blocking: call it in a thread from async code."""
    write_file(directory / "ports.json", json.dumps(ports).encode(), 0o644)
