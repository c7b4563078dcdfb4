"""TLS contexts of the agent's identity for its HTTP requests, built once for each certificate.

Invariant: a regional must show a certificate of our own CA for the address that was dialled; the centre may also show
one of the system's authorities, because a public name usually stands in front of it.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from common.tls import client_context


class IdentityTrust:
    """`renewed()` after the identity on disk was replaced."""

    def __init__(self, identity_dir: Path) -> None:
        self._identity_dir = identity_dir
        self._regional: ssl.SSLContext | None = None
        self._centre: ssl.SSLContext | None = None

    def renewed(self) -> None:
        self._regional = self._centre = None

    def regional(self) -> ssl.SSLContext:
        if self._regional is None:
            self._regional = client_context(self._identity_dir)
        return self._regional

    def centre(self) -> ssl.SSLContext:
        if self._centre is None:
            self._centre = ssl.create_default_context()
            self._centre.load_verify_locations(cafile=self._identity_dir / "ca.pem")
        return self._centre
