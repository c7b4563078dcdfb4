"""The access log counts everything, logs what people do, and stays out of the way of content."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from httpx import ASGITransport, AsyncClient
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from structlog.testing import capture_logs

from common.clock import ManualClock
from control_plane.tenants.access import Principal
from control_plane.tenants.principals import principal_of
from control_plane.web.access_log import AccessLog, HttpMetrics
from control_plane.web.errors import install_error_handlers


class OneUser:
    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str]] = []

    async def authenticate(self, authorization_header: str | None, client: str = "") -> Principal:
        self.asked.append((authorization_header, client))
        return Principal(user_id="1", name="ada")


class Site:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.registry = CollectorRegistry()
        self.authenticator = OneUser()
        self.app = Starlette(
            routes=[
                Route("/api/v1/me", self.me, methods=["GET"]),
                Route("/v2/", self.fine),
                Route("/v2/fails", self.fails),
                Route("/content/v1/broken", self.broken),
                Mount("/sub", routes=[Route("/me", self.me)]),
            ]
        )
        self.app.state.authenticator = self.authenticator
        install_error_handlers(self.app)
        self.app.add_middleware(AccessLog, clock=self.clock, metrics=HttpMetrics(self.registry))
        self.client = AsyncClient(
            transport=ASGITransport(self.app, client=("192.0.2.7", 4711)), base_url="http://longshore"
        )

    async def me(self, request: Request) -> Response:
        self.clock.tick(0.02)
        await principal_of(request)
        return PlainTextResponse((await principal_of(request)).name)

    async def fine(self, request: Request) -> Response:
        return PlainTextResponse("")

    async def fails(self, request: Request) -> Response:
        raise ZeroDivisionError

    async def broken(self, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise ZeroDivisionError

        return StreamingResponse(body())

    def count(self, route: str, method: str, status: int) -> float | None:
        return self.registry.get_sample_value(
            "control_plane_http_requests_total", {"route": route, "method": method, "status": str(status)}
        )


@pytest.fixture
def site() -> Site:
    return Site()


async def test_a_request_is_logged_with_who_asked_and_how_long_it_took(site: Site) -> None:
    with capture_logs() as logs:
        answer = await site.client.get("/api/v1/me", headers={"Authorization": "Bearer secret"})
    (line,) = [entry for entry in logs if entry["event"] == "request answered"]
    assert (line["user"], line["status"], line["seconds"], line["route"]) == ("ada", 200, 0.02, "api")
    assert "secret" not in str(logs)
    assert len(answer.headers["x-request-id"]) == 16


async def test_a_request_is_authenticated_once(site: Site) -> None:
    await site.client.get("/api/v1/me", headers={"Authorization": "Bearer secret"})
    assert site.authenticator.asked == [("Bearer secret", "192.0.2.7")]


async def test_an_api_key_header_is_a_bearer_credential(site: Site) -> None:
    await site.client.get("/api/v1/me", headers={"X-API-Key": "lsk_1_2"})
    assert [header for header, _ in site.authenticator.asked] == ["Bearer lsk_1_2"]


async def test_a_proxys_request_id_is_kept_and_a_dangerous_one_is_not(site: Site) -> None:
    kept = await site.client.get("/api/v1/me", headers={"X-Request-ID": "edge-7.1"})
    assert kept.headers["x-request-id"] == "edge-7.1"
    made = await site.client.get("/api/v1/me", headers={"X-Request-ID": 'a" level=error'})
    assert len(made.headers["x-request-id"]) == 16


async def test_a_mounted_route_tells_the_log_who_asked(site: Site) -> None:
    with capture_logs() as logs:
        await site.client.get("/sub/me")
    assert [entry["user"] for entry in logs] == ["ada"]


async def test_content_is_counted_but_not_logged(site: Site) -> None:
    with capture_logs() as logs:
        answer = await site.client.get("/v2/")
    assert logs == []
    assert "x-request-id" not in answer.headers
    assert site.count("registry", "GET", 200) == 1
    seconds = site.registry.get_sample_value("control_plane_http_request_seconds_count", {"route": "registry"})
    assert seconds == 1


async def test_content_that_fails_is_logged_once_with_its_identifier(site: Site) -> None:
    with capture_logs() as logs:
        answer = await site.client.get("/v2/fails")
    assert answer.status_code == 500
    (failed, answered) = logs
    assert failed["request_id"] == answer.json()["request_id"]
    assert answered["status"] == 500
    assert type(answered["status"]) is int  # an HTTPStatus prints as its name
    assert site.count("registry", "GET", 500) == 1


async def test_an_answer_that_breaks_half_way_breaks_the_connection(site: Site) -> None:
    with pytest.raises(ZeroDivisionError):
        await site.client.get("/content/v1/broken")


async def test_strange_methods_and_paths_make_no_new_counters(site: Site) -> None:
    for number in range(5):
        await site.client.request(f"BREW{number}", f"/coffee/{number}")
    assert site.count("other", "OTHER", 404) == 5
