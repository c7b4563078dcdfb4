"""`python -m benchmarks.swarm.tracker ADDRESS PORT`: the tracker of the sides that bring none, open to all.

It answers by the rules of our own (regional/tracker.py), so nobody is better informed than anybody else.
"""

from __future__ import annotations

import ipaddress
import random
import sys
import time
from urllib.parse import unquote_to_bytes

from aiohttp import web

from regional.tracker import Announce, Endpoint, Tracker


def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    tracker = Tracker((), time.monotonic, random.random)

    async def announce(request: web.Request) -> web.Response:
        # The info-hash is raw bytes: the framework's own parser would read it as text.
        fields = dict(part.partition("=")[::2] for part in request.raw_path.partition("?")[2].split("&"))
        peer = Endpoint(ipaddress.ip_address(str(request.remote)), int(fields["port"]))
        wish = Announce(
            unquote_to_bytes(fields["info_hash"]),
            f"{peer.address}:{peer.port}",
            peer,
            int(fields.get("left", "0")),
            fields.get("event") == "stopped",
        )
        return web.Response(body=tracker.announce(wish).encode())

    application = web.Application()
    application.router.add_get("/announce", announce)
    web.run_app(application, host=address, port=port, access_log=None, print=lambda *_: None)


if __name__ == "__main__":
    main()
