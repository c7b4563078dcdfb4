"""IPMI 2.0 (RMCP+) by pyghmi; run as a process of its own (see `speaking`).

Nothing of a maker's own is used, so nothing but UDP to the one port goes out. IPMI proves neither side before the
password's hash is out (CVE-2013-4786): it belongs into a network of its own, and Redfish is better where there is both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyghmi.exceptions import PyghmiException
from pyghmi.ipmi.command import Command

from regional.power import PowerState, Turn
from regional.power.speaking import Answered, serve

# IPMI v2.0 section 28.1 and 28.3: Get Chassis Status, Chassis Control.
_CHASSIS, _STATUS, _CONTROL = 0, 1, 2
_CONTROLS = {Turn.OFF: 0, Turn.ON: 1, Turn.SHUTDOWN: 5}
# What pyghmi says of RAKP status codes (IPMI v2.0 table 13-15) that mean who we are, or what we may.
_LOGINS = ("password", "user", "role", "privilege", "unauthorized name", "integrity")


class IpmiWords:
    def __init__(self, bmc: Mapping[str, Any]) -> None:
        self._bmc = bmc
        self._command: Command | None = None

    def state(self) -> str:
        data = self._said(_STATUS, ())["data"]
        return str(PowerState.ON if data[0] & 1 else PowerState.OFF)

    def turn(self, how: str) -> None:
        self._said(_CONTROL, (_CONTROLS[Turn(how)],))

    def boot_from_network_once(self, *, uefi: bool, http: bool) -> None:
        # There is no word for HTTP boot; firmware that can does it where it would do PXE.
        self._ask(lambda command: command.set_bootdev("network", persist=False, uefiboot=uefi))

    def close(self) -> None:
        if self._command is not None:
            self._command.ipmi_session.logout()

    def _said(self, command: int, data: tuple[int, ...]) -> Any:
        return self._ask(lambda link: link.raw_command(netfn=_CHASSIS, command=command, data=data))

    def _ask(self, ask: Callable[[Command], Any]) -> Any:
        try:
            if self._command is None:
                bmc = self._bmc
                self._command = Command(
                    bmc=bmc["address"], port=bmc["port"], userid=bmc["username"], password=bmc["password"]
                )
            said = ask(self._command)
        except PyghmiException as failure:
            # Without an argument: it gave up waiting.
            raise _answered(str(failure.args[0] if failure.args and failure.args[0] else "timeout")) from failure
        if isinstance(said, dict) and "error" in said:
            raise _answered(str(said["error"]))
        return said


def _answered(detail: str) -> Answered:
    lower = detail.lower()
    if "timeout" in lower or "no response" in lower or "no longer connected" in lower or "disconnect" in lower:
        return Answered("silent", f"nothing answers ({detail[:200]})")
    if any(word in lower for word in _LOGINS):
        return Answered("login", f"it refuses the user or the password ({detail[:200]})")
    return Answered("refused", detail[:500])


if __name__ == "__main__":
    serve(IpmiWords)
