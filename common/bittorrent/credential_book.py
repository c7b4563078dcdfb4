"""This process's key in TLS swarms and the certificates it was given, on disk.

Invariant: a certificate that was kept survives a restart, with the key it is for, so a process joins its swarms again
while nobody can sign. One key for all tenants and contents: it proves nothing but that the certificate is ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote

import structlog

from common.bittorrent.credentials import Credentials, CredentialsInvalid, PeerCertificate, check_pair
from common.bittorrent.metainfo import Metainfo
from common.clock import Clock
from common.durable import write_file
from common.tls import CertificateInvalid, new_key_and_request, request_for

log = structlog.get_logger()

_KEY = "key.pem"
# Renewal begins in 50 to 80 % of a certificate's life, each at its own moment, so that a fleet does not ask at once.
_EARLIEST, _SPREAD, _STEPS = 0.5, 0.3, 1000


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate and its key, as the torrent takes them."""

    credentials: Credentials
    certificate: PeerCertificate

    def is_alive(self, now: datetime) -> bool:
        return self.certificate.is_alive(now)

    def is_due(self, now: datetime) -> bool:
        """Whether it should be renewed by now."""
        serial = self.certificate.certificate.serial_number
        share = _EARLIEST + _SPREAD * (serial % _STEPS) / _STEPS
        return now >= self.certificate.begins_at + share * (self.certificate.ends_at - self.certificate.begins_at)


class CredentialBook:
    """`directory`: its own; made with mode 0700."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._key_pem = b""
        self._held: dict[str, list[Held]] = {}
        self._signed: dict[tuple[bytes, bytes], bool] = {}

    async def load(self) -> None:
        """What earlier processes kept; call once, before anything else. Raises OSError."""
        await asyncio.to_thread(self._load)

    def request(self) -> bytes:
        """A CSR for our key."""
        return request_for(self._key_pem)

    def find(self, tenant_id: str, metainfo: Metainfo) -> Held | None:
        """The certificate for this swarm that lives longest; None if none is alive."""
        now = self._clock.now()
        fitting = [
            held
            for held in self._held.get(tenant_id, ())
            if held.is_alive(now)
            and held.certificate.covers(metainfo.name)
            and self._is_signed(held, metainfo.authority_pem)
        ]
        return max(fitting, key=lambda held: held.certificate.ends_at, default=None)

    def shown(self, tenant_id: str, credentials: Credentials | None) -> Held | None:
        """What we know of a certificate; None if it is not ours any more."""
        return next((held for held in self._held.get(tenant_id, ()) if held.credentials == credentials), None)

    def is_fresh(self, tenant_id: str, name: str) -> bool:
        """Whether some certificate covers that torrent and is not due to be renewed."""
        now = self._clock.now()
        return any(held.certificate.covers(name) and not held.is_due(now) for held in self._held.get(tenant_id, ()))

    async def keep(self, tenant_id: str, certificate_pem: bytes) -> None:
        """Durable on return. Raises `CredentialsInvalid` if it is not for our key, and OSError."""
        credentials = Credentials(certificate_pem, self._key_pem)
        held = Held(credentials, check_pair(credentials))
        path = self._path(tenant_id, held)
        await asyncio.to_thread(write_file, path, certificate_pem)
        self._held.setdefault(tenant_id, []).append(held)
        await asyncio.to_thread(self._forget_expired)

    def _load(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key_pem = self._load_key()
        for tenant_id, path in self._files():
            try:
                credentials = Credentials(path.read_bytes(), self._key_pem)
                self._held.setdefault(tenant_id, []).append(Held(credentials, check_pair(credentials)))
            except CredentialsInvalid as failure:
                log.warning("swarm certificate not usable, removed", path=str(path), error=str(failure))
                path.unlink()
        self._forget_expired()

    def _load_key(self) -> bytes:
        path = self._directory / _KEY
        try:
            key = path.read_bytes()
            request_for(key)
        except (FileNotFoundError, CertificateInvalid):
            key, _ = new_key_and_request()
            write_file(path, key)
        return key

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self._directory.iterdir()):
            tenant_id, _, _ = path.name.partition("@")
            if path.suffix == ".crt" and not path.name.startswith("."):
                yield unquote(tenant_id), path

    def _forget_expired(self) -> None:
        now = self._clock.now()
        for tenant_id, every in list(self._held.items()):
            for held in [one for one in every if one.certificate.ends_at <= now]:
                every.remove(held)
                self._path(tenant_id, held).unlink(missing_ok=True)
        kept = {held.credentials.certificate_pem for every in self._held.values() for held in every}
        self._signed = {key: answer for key, answer in self._signed.items() if key[0] in kept}

    def _is_signed(self, held: Held, authority_pem: bytes) -> bool:
        """0.1 ms the first time; asked for every torrent, many times."""
        key = held.credentials.certificate_pem, authority_pem
        if key not in self._signed:
            self._signed[key] = held.certificate.is_signed_by(authority_pem)
        return self._signed[key]

    def _path(self, tenant_id: str, held: Held) -> Path:
        return self._directory / f"{quote(tenant_id, safe='')}@{held.certificate.certificate.serial_number:x}.crt"
