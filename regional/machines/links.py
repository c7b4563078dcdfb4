"""URLs and paths under which one boot finds what is its own; pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Links:
    """`base`: of this regional's HTTP, without a slash at the end."""

    base: str

    def stub(self, mac: str) -> str:
        return f"{self.base}/boot/{mac.replace(':', '-')}.ipxe"

    def script(self, mac: str) -> str:
        return f"{self.base}/boot/{mac.replace(':', '-')}/next.ipxe"

    def path(self, token: str, name: str) -> str:
        """Also the name by TFTP."""
        return f"/boot/s/{token}/{name}"

    def file(self, token: str, name: str) -> str:
        return self.base + self.path(token, name)

    def documents(self, token: str) -> str:
        return f"{self.base}/boot/s/{token}/documents"

    def device(self, token: str) -> str:
        return f"{self.base}/api/v1/device/{token}"


def grub_path(mac: str) -> str:
    return f"/boot/grub.cfg-01-{mac.replace(':', '-')}"
