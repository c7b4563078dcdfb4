"""What one must know to talk to a registry, and what it answers; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from common.digest import Digest
from control_plane.registry.model import Descriptor


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One registry. `url` is `https://host[:port]`; `ca_pem` is trusted beside the system's authorities. `auth_hosts`
    are token services that may see the credentials although they are on another host.
    """

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca_pem: str = ""
    auth_hosts: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """With the port, as messages name it."""
        return urlsplit(self.url).netloc

    @property
    def has_credentials(self) -> bool:
        return bool(self.username or self.password)


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """Verified: `payload` has the digest."""

    digest: Digest
    media_type: str
    payload: bytes

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.payload))


@dataclass(frozen=True, slots=True)
class Patience:
    """`tries` of one request, waiting at most `longest_wait_seconds` between two; `idle_seconds` is how long a registry
    may send or take nothing, `request_seconds` bounds everything but the transfer of blobs.
    """

    tries: int = 4
    longest_wait_seconds: float = 10.0
    first_wait_seconds: float = 0.3
    idle_seconds: float = 30.0
    request_seconds: float = 60.0
