"""`/api/v1/boot/...`: what was seen of machines, for an operator who stands at this regional with the centre away.

Invariant: only to this computer itself. Timelines tell who is installed when, and the listener is open to the rack.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address

from aiohttp import web

from common.errors import Denied
from regional.machines.asking import said_mac
from regional.machines.ledger import Ledger
from regional.machines.timeline import Timeline


class OnlyHere(Denied):
    code = "only_on_this_computer"


class TimelineRoutes:
    def __init__(self, timeline: Timeline, ledger: Ledger, own: str) -> None:
        self._timeline = timeline
        self._ledger = ledger
        self._own = ip_address(own)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/boot/machines", self.machines),
            web.get("/api/v1/boot/machines/{mac}/timeline", self.timeline),
        ]

    async def machines(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response({"machines": [self._machine(mac) for mac in self._timeline.macs()]})

    async def timeline(self, request: web.Request) -> web.Response:
        self._check(request)
        mac = said_mac(request.match_info["mac"])
        events = [
            {"at": _moment(each.at), "stage": each.stage, "detail": each.detail, "trouble": each.trouble}
            for each in self._timeline.events(mac)
        ]
        return web.json_response({**self._machine(mac), "events": events})

    def _machine(self, mac: str) -> dict[str, object]:
        target = self._ledger.target(mac)
        install = self._ledger.install(target.intent.id) if target is not None and target.intent is not None else None
        return {
            "mac": mac,
            "machine": target.machine_id if target is not None else "",
            "name": target.name if target is not None else "",
            "stage": str(install.stage) if install is not None else "",
            "detail": install.detail if install is not None else "",
            "verdict": self._timeline.verdict(mac) or "",
        }

    def _check(self, request: web.Request) -> None:
        remote = ip_address((request.remote or "0.0.0.0").partition("%")[0])
        if not remote.is_loopback and remote != self._own:
            raise OnlyHere("boot timelines are told to this computer alone", action="ask from there, or ask the centre")


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="milliseconds")
