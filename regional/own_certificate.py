"""The operator's own certificate for HTTPS, taken up again whenever its files change.

Invariant: new connections show the newest pair that fits together; a pair that does not (half copied, of different
makers) changes nothing and is said to be wrong.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import structlog

from common.clock import Clock
from common.errors import Invalid

log = structlog.get_logger()
_LOOK_SECONDS = 10.0


class CertificateUnusable(Invalid):
    code = "certificate_unusable"


class OwnCertificate:
    """`key` None: it is in the certificate's file."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """Raises `CertificateUnusable`. Blocking."""
        self._certificate, self._key = certificate, key or certificate
        self._seen = self._state()
        self._newest = self._loaded()
        # Of the listener, for good. Loading into it while others shake hands showed them half a pair.
        self.context = self._loaded()
        self.context.sni_callback = self._choose

    def reload(self) -> bool:
        """Whether changed files were taken up. Raises `CertificateUnusable`, once for each change. Blocking."""
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        self._newest = self._loaded()
        return True

    async def watch(self, clock: Clock) -> None:
        """For ever."""
        while True:
            await clock.sleep(_LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self.reload):
                    log.info("certificate taken up", file=str(self._certificate))
            except CertificateUnusable as failure:
                log.error("certificate not taken up", error=str(failure))

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, *_: object) -> None:
        # Called for every handshake, also of clients that name no host.
        connection.context = self._newest

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            raise CertificateUnusable(
                f"{self._certificate} and {self._key} are no certificate with its key: {error}",
                action="check tls_cert_file and tls_key_file; both are PEM files that the regional can read",
            ) from error
        return context

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state_of(path) for path in (self._certificate, self._key))


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
