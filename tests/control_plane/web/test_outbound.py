from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from control_plane.web.outbound import Outbound, RedirectRefused, TargetAway
from control_plane.web.outbound_addresses import AddressPolicy, AddressRefused

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
LOCAL = AddressPolicy.of(["127.0.0.1"])


@contextlib.asynccontextmanager
async def served(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    yield f"http://{host}:{runner.addresses[0][1]}"
    await runner.cleanup()


@contextlib.asynccontextmanager
async def going_out(policy: AddressPolicy = LOCAL) -> AsyncIterator[Outbound]:
    outbound = Outbound(policy)
    yield outbound
    await outbound.close()


async def fine(request: web.BaseRequest) -> web.Response:
    return web.Response(text=request.headers.get("Authorization", "nobody"))


async def test_an_allowed_address_is_asked() -> None:
    async with served(fine) as url, going_out() as outbound, outbound.request("GET", url) as answer:
        assert await answer.text() == "nobody"


async def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_resolved() -> None:
    async with served(fine) as url, going_out(AddressPolicy()) as outbound:
        for host in ("localhost", "LOCALHOST"):
            with pytest.raises(AddressRefused):
                async with outbound.request("GET", url.replace("http://127.0.0.1", f"https://{host}")):
                    pass


async def test_a_literal_is_refused_before_anything_is_opened() -> None:
    async with going_out(AddressPolicy()) as outbound:
        with pytest.raises(AddressRefused):
            async with outbound.request("GET", "https://127.0.0.1:1/"):
                pass


async def test_the_socket_itself_is_guarded_whatever_the_resolver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the DNS answered the check with one address and the connection with another."""
    async with served(fine) as url, going_out(AddressPolicy()) as outbound:
        port = int(url.rpartition(":")[2])
        monkeypatch.setattr("control_plane.web.outbound._CheckedResolver.resolve", _rebinding(port))
        with pytest.raises(AddressRefused):
            async with outbound.request("GET", f"https://innocent.example:{port}/"):
                pass


def _rebinding(port: int) -> Callable[..., Awaitable[list[dict[str, object]]]]:
    async def resolve(*_arguments: object, **_named: object) -> list[dict[str, object]]:
        return [
            {
                "hostname": "innocent.example",
                "host": "127.0.0.1",
                "port": port,
                "family": socket.AF_INET,
                "proto": 6,
                "flags": 0,
            }
        ]

    return resolve


async def test_a_redirect_is_checked_like_a_first_url() -> None:
    async def away(_request: web.BaseRequest) -> web.Response:
        raise web.HTTPFound("http://127.0.0.2:9/secret")

    async with served(away) as url, going_out() as outbound:
        with pytest.raises(AddressRefused):
            async with outbound.request("GET", url):
                pass


async def test_credentials_stay_at_their_origin() -> None:
    async with served(fine) as other:

        async def away(_request: web.BaseRequest) -> web.Response:
            raise web.HTTPTemporaryRedirect(other)

        secrets = {"Authorization": "Basic secret"}
        async with served(away) as url, going_out() as outbound, outbound.request("GET", url, secrets=secrets) as got:
            assert await got.text() == "nobody"


async def test_credentials_go_along_within_an_origin() -> None:
    async def away(request: web.BaseRequest) -> web.Response:
        if request.path == "/there":
            return await fine(request)
        raise web.HTTPFound("/there")

    secrets = {"Authorization": "Basic secret"}
    async with served(away) as url, going_out() as outbound, outbound.request("GET", url, secrets=secrets) as got:
        assert await got.text() == "Basic secret"


async def test_redirects_end() -> None:
    async def again(_request: web.BaseRequest) -> web.Response:
        raise web.HTTPFound("/again")

    async with served(again) as url, going_out() as outbound:
        with pytest.raises(RedirectRefused):
            async with outbound.request("GET", url):
                pass


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://0x7f.1/", "http://[::ffff:127.0.0.9]/", "ftp://x/"])
async def test_a_redirect_to_another_scheme_or_spelling_is_refused(target: str) -> None:
    async def away(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": target})

    async with served(away) as url, going_out() as outbound:
        with pytest.raises(Exception, match=r"not"):
            async with outbound.request("GET", url):
                pass


async def test_a_write_is_not_redirected() -> None:
    async def away(_request: web.BaseRequest) -> web.Response:
        raise web.HTTPTemporaryRedirect("/there")

    async with served(away) as url, going_out() as outbound:
        with pytest.raises(RedirectRefused):
            async with outbound.request("POST", url, data=b"x"):
                pass


async def test_a_target_that_is_away_is_named() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        async with going_out() as outbound:
            with pytest.raises(TargetAway, match=f"127.0.0.1:{port} cannot be reached"):
                async with outbound.request("GET", f"http://127.0.0.1:{port}/"):
                    pass


async def test_a_target_that_keeps_silent_is_given_up() -> None:
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with going_out() as outbound:
        with pytest.raises(TargetAway, match="in time"):
            async with outbound.request(
                "GET", f"http://127.0.0.1:{port}/", timeout=aiohttp.ClientTimeout(sock_read=0.1)
            ):
                pass
    await ended.wait()
    server.close()
