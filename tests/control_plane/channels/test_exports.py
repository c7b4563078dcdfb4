"""An instance as one archive, from its engine to a client."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from agent.runtimes import EngineRefused
from tests.control_plane.channels.lab import ChannelPlane, Client, Host
from tests.control_plane.channels.test_channels import quiet

Clients = Callable[..., Client]
Export = Callable[..., contextlib.AbstractAsyncContextManager[AsyncIterator[bytes]]]


def failing(after: int) -> Export:
    """An engine that gives so many pieces and then fails."""

    @contextlib.asynccontextmanager
    async def export(runtime_id: str, *, with_snapshots: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(after):
                yield bytes(100_000)
            raise EngineRefused("the pool is broken", action="mend it")

        yield chunks()

    return export


async def test_an_export_is_whole(plane: ChannelPlane, host: Host, client: Clients) -> None:
    host.engine.files[host.container] = {"/data": bytes(range(256)) * 4000}
    await host.driver.snapshot(host.container, "before")
    async with client("operator").export(snapshots=True) as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "application/x-tar")
        body = await answer.read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert {"data", ".snapshots/before/data"} <= set(archive.getnames())
        found = archive.extractfile("data")
        assert found is not None
        assert found.read() == bytes(range(256)) * 4000
    await quiet(plane, host)


async def test_what_fails_at_once_is_an_answer_of_its_own(
    plane: ChannelPlane, host: Host, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.driver, "export", failing(0))
    async with client("operator").export() as answer:
        assert (answer.status, (await answer.json())["detail"]) == (409, "the pool is broken")
    await quiet(plane, host)


async def test_what_breaks_off_is_not_taken_for_whole(
    plane: ChannelPlane, host: Host, client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.driver, "export", failing(5))
    async with client("operator").export() as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    await quiet(plane, host)


async def test_a_client_that_leaves_ends_it(plane: ChannelPlane, host: Host, client: Clients) -> None:
    host.engine.files[host.container] = {"/data": bytes(8 << 20)}
    async with client("operator").export() as answer:
        assert await answer.content.read(1000)
    await quiet(plane, host)


async def test_only_who_may_run_commands_takes_everything_out(host: Host, client: Clients) -> None:
    async with client("viewer").export() as answer:
        assert answer.status == 403
    async with client("stranger").export() as answer:
        assert answer.status == 404
