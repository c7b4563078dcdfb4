"""Which libraries for BMCs are missing here: they come with the extra `power`."""

from __future__ import annotations

from importlib.util import find_spec

from regional.power import PowerNotInstalled, Protocols

_LIBRARIES = {Protocols.REDFISH: "sushy", Protocols.IPMI: "pyghmi"}


def missing() -> list[str]:
    return [library for library in _LIBRARIES.values() if find_spec(library) is None]


def require(protocol: Protocols) -> None:
    """Raises `PowerNotInstalled`."""
    library = _LIBRARIES[protocol]
    if library in missing():
        raise PowerNotInstalled(
            f"this regional has no {library}, which speaks {protocol.value}",
            action="install it with its extra: `pip install longshore[power]`",
        )
