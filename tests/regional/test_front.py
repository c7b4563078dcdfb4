"""The open listener as the settings say: HTTP and HTTPS, whose certificate may change while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.clock import ManualClock, SystemClock
from common.lifecycle import Lifecycle
from common.tls import Name
from regional.front import open_front
from regional.metrics import Metrics
from regional.own_certificate import CertificateUnusable, OwnCertificate
from regional.serving import listening
from regional.settings import RegionalSettings
from regional.tree import create_tree
from tests.pace import BUSY_SECONDS

from .certificates import Authority


@asynccontextmanager
async def front(directory: Path, **settings: object) -> AsyncIterator[tuple[int, int | None]]:
    facts = {"idc": "east", "data": directory / "data", "static_root": directory / "root", "api_port": 0, "tls_port": 0}
    create_tree(directory / "root")
    (directory / "root/static/kernels/vmlinuz").write_bytes(b"kernel" * 100_000)
    subject = RegionalSettings(**{**facts, **settings})  # type: ignore[arg-type]
    async with Lifecycle() as lifecycle:
        yield await open_front(subject, lifecycle, SystemClock(), random.Random(1).random, Metrics(), [])


@dataclass(frozen=True)
class Pair:
    """A certificate for 127.0.0.1, its key, and a client that believes its maker."""

    certificate: Path
    key: Path
    client: ssl.SSLContext


def pair(directory: Path) -> Pair:
    directory.mkdir(exist_ok=True)
    authority = Authority()
    identity = authority.identity(Name("east", "host", "front"))
    subject = Pair(
        directory / "certificate.pem",
        directory / "key.pem",
        ssl.create_default_context(cadata=authority.pem.decode()),
    )
    subject.certificate.write_bytes(identity.certificate_pem)
    subject.key.write_bytes(identity.key_pem)
    return subject


async def test_the_same_files_are_there_by_https(tmp_path: Path) -> None:
    own = pair(tmp_path)
    async with (
        front(tmp_path, tls_cert_file=own.certificate, tls_key_file=own.key) as (plain, secure),
        aiohttp.ClientSession() as http,
    ):
        async with http.get(f"https://127.0.0.1:{secure}/static/kernels/vmlinuz", ssl=own.client) as answer:
            assert await answer.read() == b"kernel" * 100_000
        async with http.get(f"http://127.0.0.1:{plain}/static/kernels/vmlinuz") as answer:
            assert await answer.read() == b"kernel" * 100_000


async def test_without_a_certificate_there_is_no_https(tmp_path: Path) -> None:
    async with front(tmp_path) as (_, secure):
        assert secure is None


async def test_a_certificate_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "broken.pem").write_text("no certificate")
    with pytest.raises(CertificateUnusable, match="tls_cert_file"):
        async with front(tmp_path, tls_cert_file=tmp_path / "broken.pem"):
            pass


async def test_a_new_certificate_is_shown_once_both_halves_are_there(tmp_path: Path) -> None:
    old, new = pair(tmp_path / "old"), pair(tmp_path / "new")
    clock, own = ManualClock(), OwnCertificate(old.certificate, old.key)
    app = web.Application()
    async with Lifecycle() as lifecycle, listening(app, "127.0.0.1", 0, own.context) as port:
        lifecycle.spawn("watch", own.watch(clock))
        await believed(port, old)
        shutil.copy(new.certificate, old.certificate)
        await clock.advance(10.0)
        await believed(port, old)
        shutil.copy(new.key, old.key)

        async def taken_up() -> None:
            while True:
                await clock.advance(10.0)
                with contextlib.suppress(aiohttp.ClientConnectorCertificateError):
                    await believed(port, new)
                    return

        async with asyncio.timeout(BUSY_SECONDS):
            await taken_up()


def test_a_pair_that_does_not_fit_is_said_once(tmp_path: Path) -> None:
    old, new = pair(tmp_path / "old"), pair(tmp_path / "new")
    own = OwnCertificate(old.certificate, old.key)
    assert not own.reload()
    shutil.copy(new.certificate, old.certificate)
    with pytest.raises(CertificateUnusable):
        own.reload()
    assert not own.reload()
    shutil.copy(new.key, old.key)
    assert own.reload()


async def believed(port: int, by: Pair) -> None:
    """Raises `aiohttp.ClientConnectorCertificateError` if another certificate is shown."""
    async with aiohttp.ClientSession() as http, http.get(f"https://127.0.0.1:{port}/", ssl=by.client) as answer:
        assert answer.status == 404
