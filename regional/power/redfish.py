"""Redfish (DMTF DSP0266) by sushy, over HTTPS and nothing else; run as a process of its own (see `speaking`).

Invariant: the session has an adapter for the BMC's own address only, so a link, a redirect or a proxy to anywhere else
finds no way out, and no credentials go there.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import requests
import sushy
from requests.adapters import HTTPAdapter
from sushy import auth, connector, exceptions

from regional.power import PowerState, Turn
from regional.power.speaking import Answered, serve

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 20.0
_RESETS = {
    Turn.ON: sushy.ResetType.ON,
    Turn.OFF: sushy.ResetType.FORCE_OFF,
    Turn.SHUTDOWN: sushy.ResetType.GRACEFUL_SHUTDOWN,
}
_STATES = {
    sushy.PowerState.ON: PowerState.ON,
    sushy.PowerState.OFF: PowerState.OFF,
}


class _SendsElsewhere(requests.RequestException):
    """A redirect."""


class _Pinned(HTTPAdapter):
    """The one certificate, whoever signed it (urllib3's `assert_fingerprint`)."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more, assert_fingerprint=self._fingerprint or None)


class _Session(requests.Session):
    def __init__(self, base: str, fingerprint: str) -> None:
        super().__init__()
        self.trust_env = False  # no proxies, no .netrc
        self.adapters.clear()
        self.mount(base, _Pinned(fingerprint))

    def request(self, *args: Any, **more: Any) -> requests.Response:
        found = super().request(*args, **{**more, "allow_redirects": False})
        if found.is_redirect or found.is_permanent_redirect:
            raise _SendsElsewhere(f"it answers {found.status_code} and sends us elsewhere, which is not followed")
        return found


class RedfishWords:
    def __init__(self, bmc: Mapping[str, Any]) -> None:
        host = f"[{bmc['address']}]" if ":" in bmc["address"] else bmc["address"]
        self._base = f"https://{host}:{bmc['port']}/"
        self._where = (bmc["address"], bmc["port"])
        self._bmc = bmc
        self._system: Any = None
        self._session = _Session(self._base, bmc["fingerprint"])

    def state(self) -> str:
        def ask(system: Any) -> str:
            system.refresh(force=True)
            return _STATES.get(system.power_state, PowerState.UNKNOWN)

        return str(self._with_system(ask))

    def turn(self, how: str) -> None:
        self._with_system(lambda system: system.reset_system(_RESETS[Turn(how)]))

    def boot_from_network_once(self, *, uefi: bool, http: bool) -> None:
        # The mode is left as it is: BMCs that switch it with a one-time override were seen to keep it.
        target = sushy.BootSource.UEFI_HTTP if uefi and http else sushy.BootSource.PXE
        once = sushy.BootSourceOverrideEnabled.ONCE
        self._with_system(lambda system: system.set_system_boot_options(target=target, enabled=once))

    def close(self) -> None:
        self._session.close()

    def _with_system(self, ask: Any) -> Any:
        try:
            if self._system is None:
                self._system = self._found()
            return ask(self._system)
        except exceptions.AccessError as failure:
            raise Answered("login", "it refuses the user or the password") from failure
        except exceptions.ConnectionError as failure:
            raise self._unanswered(failure.__context__ or failure) from failure
        except exceptions.SushyError as failure:
            raise Answered("refused", str(failure)[:500]) from failure

    def _found(self) -> Any:
        link = connector.Connector(
            self._base,
            verify=not self._bmc["fingerprint"] and (self._bmc.get("ca_file") or True),
            # One try: sushy sends a request again that timed out, a reset too.
            server_side_retries=1,
            server_side_retries_delay=1,
            default_request_timeout=_READ_SECONDS,
            connect_timeout=_CONNECT_SECONDS,
        )
        headers = dict(link._session.headers)
        link._session.close()
        link._session = self._session
        self._session.headers.update(headers)
        login = auth.BasicAuth(self._bmc["username"], self._bmc["password"])
        service = sushy.Sushy(self._base, auth=login, connector=link)
        if self._bmc["system"]:
            name = self._bmc["system"]
            return service.get_system(name if name.startswith("/") else f"/redfish/v1/Systems/{name}")
        names = service.get_system_collection().members_identities
        if len(names) != 1:
            known = ", ".join(name.rsplit("/", 1)[-1][:64] for name in names[:8])
            raise Answered("refused", f"it has {len(names)} systems ({known}): say which one")
        return service.get_system(names[0])

    def _unanswered(self, cause: BaseException) -> Answered:
        if isinstance(cause, requests.exceptions.SSLError):
            shown = self._shown()
            what = f"; it shows the certificate {shown}" if shown else ""
            return Answered("trust", f"its certificate is not the one that was given, or does not verify{what}")
        if isinstance(cause, requests.exceptions.InvalidSchema):
            return Answered("trust", "it names an address that is not its own, which is not followed")
        if isinstance(cause, _SendsElsewhere):
            return Answered("trust", str(cause))
        return Answered("silent", f"nothing answers ({type(cause).__name__})")

    def _shown(self) -> str:
        """Its certificate's fingerprint, for people to compare; empty if it cannot be had."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection(self._where, _CONNECT_SECONDS) as plain,
                context.wrap_socket(plain) as wrapped,
            ):
                return hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()
        except OSError:
            return ""


if __name__ == "__main__":
    serve(RedfishWords)
