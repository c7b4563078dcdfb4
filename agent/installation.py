"""Which Longshore this process runs from."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """`0` where it is no installed package."""
    try:
        return version("longshore")
    except PackageNotFoundError:
        return "0"
