"""A BMC that speaks IPMI over LAN, of pyghmi's own making; a program.

It says its port, then each change of its machine as a JSON line. Arguments: user, password.
"""

from __future__ import annotations

import json
import sys

from pyghmi.ipmi import bmc
from pyghmi.ipmi.private.serversession import ServerSession

_SHA1 = 1
_NO_SUCH_CIPHER_SUITE = 0x11
_answered = ServerSession.create_open_session_response


def answer_open_request(session: ServerSession, request: bytes) -> bytes:
    """Takes SHA-1 only, as the rest of pyghmi's BMC does; it says yes to SHA-256 too, and then its client fails."""
    if request[12] != _SHA1:
        return bytes([request[0], _NO_SUCH_CIPHER_SUITE, 0, 0, *request[4:8]])
    return bytes(_answered(session, request))


class Bmc(bmc.Bmc):
    def __init__(self, user: str, password: str) -> None:
        # Loopback as its own threads expect it: they wake each other over IPv6.
        super().__init__({user: password}, port=0, address="::ffff:127.0.0.1")
        self.port = self.serversocket.getsockname()[1]
        self._on = False
        self._boot = "default"
        print(json.dumps({"port": self.port}), flush=True)

    def get_power_state(self) -> str:
        return "on" if self._on else "off"

    def power_on(self) -> None:
        self._turn(on=True)

    def power_off(self) -> None:
        self._turn(on=False)

    def power_shutdown(self) -> None:
        self._turn(on=False)

    def get_boot_device(self) -> str:
        return self._boot

    def set_boot_device(self, bootdevice: str) -> None:
        self._boot = bootdevice
        self._tell()

    def _turn(self, *, on: bool) -> None:
        self._on = on
        self._tell()

    def _tell(self) -> None:
        print(json.dumps({"power": self.get_power_state(), "boot": self._boot}), flush=True)


if __name__ == "__main__":
    ServerSession.create_open_session_response = answer_open_request
    Bmc(*sys.argv[1:]).listen()
