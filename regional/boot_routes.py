"""`/boot/{mac}.ipxe`: the script of one machine, asked for by iPXE once DHCP named it."""

from __future__ import annotations

from aiohttp import web

from common.errors import Invalid
from regional.boot_targets import mac_of
from regional.bootscript import local_disk


class MacInvalid(Invalid):
    code = "mac_invalid"


class BootRoutes:
    def routes(self) -> list[web.RouteDef]:
        return [web.get("/boot/{mac}.ipxe", self._script)]

    async def _script(self, request: web.Request) -> web.Response:
        if mac_of(request.match_info["mac"]) is None:
            raise MacInvalid("this is no hardware address", action="write it as 52-54-00-12-34-56")
        return web.Response(text=local_disk(), headers={"Cache-Control": "no-store"})
