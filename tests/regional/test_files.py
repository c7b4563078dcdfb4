"""Files for machines that boot: served, listed, and nothing outside."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from common.clock import SystemClock
from regional import tree
from regional.files import Files
from regional.metrics import Metrics
from regional.serving import listening, watch
from regional.tree import StaticRootUnusable, create_tree
from tests.pace import BUSY_SECONDS

KERNEL = bytes(range(256)) * 40_000  # 10 MB: more than one slice of sendfile


class Server:
    def __init__(self, port: int, root: Path, http: aiohttp.ClientSession) -> None:
        self.port, self.root, self.http = port, root, http

    def get(self, path: str, **headers: str) -> aiohttp.client._RequestContextManager:
        return self.http.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, allow_redirects=False)

    async def raw(self, target: str, method: str = "GET") -> tuple[int, bytes]:
        """A request whose target no client library has tidied up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    root = tmp_path / "tftpboot"
    create_tree(root)
    (root / "static/kernels/vmlinuz-ubuntu-22.04").write_bytes(KERNEL)
    (root / "static/initramfs/agent.gz").write_bytes(b"gz")
    (root / "static/initramfs/agent").write_bytes(b"plain")
    (root / "repos/debian/12/Packages.xz").write_bytes(b"xz")
    (tmp_path / "secret").write_bytes(b"hidden words")
    (root / "secret").write_bytes(b"hidden words")
    app = web.Application(middlewares=[watch(SystemClock(), Metrics())])
    app.add_routes(Files(root, SystemClock()).routes())
    async with listening(app, "127.0.0.1", 0) as port, aiohttp.ClientSession(auto_decompress=False) as http:
        yield Server(port, root, http)


async def test_a_kernel_is_served_whole(server: Server) -> None:
    async with server.get("/static/kernels/vmlinuz-ubuntu-22.04") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert await answer.read() == KERNEL


async def test_head_tells_what_get_would_send(server: Server) -> None:
    async with server.http.head(f"http://127.0.0.1:{server.port}/static/kernels/vmlinuz-ubuntu-22.04") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Length"] == str(len(KERNEL))
        assert await answer.read() == b""


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5000000-", 5_000_000, len(KERNEL)),
        ("bytes=-3", len(KERNEL) - 3, len(KERNEL)),
        ("bytes=4194303-4194304", 4_194_303, 4_194_305),
    ],
)
async def test_a_range_is_served(server: Server, header: str, start: int, end: int) -> None:
    async with server.get("/static/kernels/vmlinuz-ubuntu-22.04", Range=header) as answer:
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(KERNEL)}"
        assert await answer.read() == KERNEL[start:end]


async def test_a_range_behind_the_end_is_416_with_the_size(server: Server) -> None:
    async with server.get("/static/kernels/vmlinuz-ubuntu-22.04", Range=f"bytes={len(KERNEL)}-") as answer:
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{len(KERNEL)}"
        assert (await answer.json())["code"] == "range_unsatisfiable"


async def test_what_the_client_has_is_not_sent_again(server: Server) -> None:
    async with server.get("/repos/debian/12/Packages.xz") as answer:
        etag, modified = answer.headers["ETag"], answer.headers["Last-Modified"]
        assert answer.headers["Content-Type"] == "application/x-xz"
    async with server.get("/repos/debian/12/Packages.xz", **{"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with server.get("/repos/debian/12/Packages.xz", **{"If-Modified-Since": modified}) as answer:
        assert answer.status == 304
    async with server.get("/repos/debian/12/Packages.xz", **{"If-Range": '"other"', "Range": "bytes=0-0"}) as answer:
        assert (answer.status, await answer.read()) == (200, b"xz")


async def test_a_compressed_neighbour_never_stands_in_for_a_file(server: Server) -> None:
    async with server.get("/static/initramfs/agent", **{"Accept-Encoding": "gzip"}) as answer:
        assert "Content-Encoding" not in answer.headers
        assert await answer.read() == b"plain"
    async with server.get("/static/initramfs/agent.gz", **{"Accept-Encoding": "gzip"}) as answer:
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Content-Type"] == "application/gzip"
        assert await answer.read() == b"gz"


@pytest.mark.parametrize(
    "target",
    [
        "/static/../secret",
        "/static/../../secret",
        "/static/kernels/../../../secret",
        "/static/%2e%2e/secret",
        "/static/%2E%2E/%2e%2e/secret",
        "/static/.%2e/secret",
        "/static/..%2fsecret",
        "/static/%252e%252e/secret",
        "/static/..\\..\\secret",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/./kernels",
        "/static../secret",
        "/staticsecret",
        "/repos/../../etc/passwd",
        "/static/" + "a" * 5000,
        "/static/" + "a/" * 2000,
        "/../secret",
        "//secret",
        "http://x/static/../secret",
    ],
)
async def test_nothing_outside_an_area_is_served(server: Server, target: str) -> None:
    status, body = await server.raw(target)
    assert status in (400, 404)
    assert b"hidden words" not in body
    assert b"root:" not in body


@pytest.mark.parametrize("target", ["/static/a%00b", "/static/a%0ab", "/static/%0d%0aX-Injected:1"])
async def test_a_path_with_control_bytes_is_refused(server: Server, target: str) -> None:
    status, body = await server.raw(target)
    assert status == 400
    assert json.loads(body)["code"] == "path_invalid"


async def test_links_are_followed_inside_an_area_only(server: Server) -> None:
    static = server.root / "static"
    (static / "kernels/vmlinuz").symlink_to("vmlinuz-ubuntu-22.04")
    (static / "leak").symlink_to("../../secret")
    (static / "etc").symlink_to("/etc")
    (static / "loop").symlink_to("loop")
    (static / "up").symlink_to("..")
    async with server.get("/static/kernels/vmlinuz", Range="bytes=0-3") as answer:
        assert await answer.read() == KERNEL[:4]
    for path in ("/static/leak", "/static/etc/passwd", "/static/loop", "/static/up/secret", "/static/up/"):
        async with server.get(path) as answer:
            assert answer.status == 404, path
    async with server.get("/api/v1/files/static") as answer:
        names = {entry["name"] for entry in (await answer.json())["files"]}
    assert "vmlinuz" in names
    assert not names & {"leak", "etc", "loop", "up"}


async def test_what_is_no_file_is_not_opened(server: Server) -> None:
    os.mkfifo(server.root / "static/pipe")
    async with asyncio.timeout(BUSY_SECONDS):
        async with server.get("/static/pipe") as answer:
            assert answer.status == 404


async def test_a_directory_shows_its_entries_as_relative_links(server: Server) -> None:
    (server.root / "static/kernels/a b<i>:c").write_bytes(b"1")
    async with server.get("/static/kernels") as answer:
        assert (answer.status, answer.headers["Location"]) == (301, "/static/kernels/")
    async with server.get("/static/kernels/") as answer:
        page = await answer.text()
        assert answer.headers["Content-Type"].startswith("text/html")
    assert '<a href="./vmlinuz-ubuntu-22.04">' in page
    assert '<a href="./a%20b%3Ci%3E%3Ac">a b&lt;i&gt;:c</a>' in page
    assert '<a href="../">' in page
    async with server.get("/static/kernels/a%20b%3Ci%3E%3Ac") as answer:
        assert await answer.read() == b"1"


async def test_the_listing_has_the_shape_that_was_asked_for(server: Server) -> None:
    kernel = server.root / "static/kernels/vmlinuz-ubuntu-22.04"
    os.utime(kernel, (1770213600, 1770213600))
    async with server.get("/api/v1/files/static") as answer:
        listing = await answer.json()
    assert listing["path"] == "/static"
    assert set(listing) == {"path", "files"}
    paths = [entry["path"] for entry in listing["files"]]
    assert paths == [
        "/initramfs",
        "/initramfs/agent",
        "/initramfs/agent.gz",
        "/kernels",
        "/kernels/vmlinuz-ubuntu-22.04",
    ]
    assert listing["files"][-1] == {
        "name": "vmlinuz-ubuntu-22.04",
        "path": "/kernels/vmlinuz-ubuntu-22.04",
        "is_dir": False,
        "size": len(KERNEL),
        "modified": "2026-02-04T14:00:00Z",
    }
    directory = listing["files"][3]
    assert (directory["name"], directory["is_dir"]) == ("kernels", True)
    assert "modified" not in directory
    assert isinstance(directory["size"], int)


async def test_a_part_of_an_area_can_be_listed_and_is_bounded(server: Server) -> None:
    async with server.get("/api/v1/files/repos?path=/debian") as answer:
        listing = await answer.json()
    assert listing["path"] == "/repos/debian"
    assert [entry["path"] for entry in listing["files"]] == ["/debian/11", "/debian/12", "/debian/12/Packages.xz"]
    async with server.get("/api/v1/files/repos?path=debian&limit=2") as answer:
        listing = await answer.json()
    assert (len(listing["files"]), listing["truncated"]) == (2, True)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("static?path=../", 404),
        ("static?path=%2e%2e", 404),
        ("static?path=%00", 400),
        ("static?path=/nowhere", 404),
        ("static?path=/kernels/vmlinuz-ubuntu-22.04", 404),
        ("static?limit=0", 400),
        ("static?limit=-1", 400),
        ("static?limit=x", 400),
        ("static?limit=100001", 400),
        ("etc", 404),
        ("..%2f..", 404),
    ],
)
async def test_a_listing_of_something_else_is_refused(server: Server, query: str, status: int) -> None:
    async with server.get(f"/api/v1/files/{query}") as answer:
        assert answer.status == status
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_an_unreadable_file_is_forbidden_and_says_what_to_do(server: Server) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    secret = server.root / "static/closed"
    secret.write_bytes(b"x")
    secret.chmod(0)
    async with server.get("/static/closed") as answer:
        assert answer.status == 403
        assert "chmod" in (await answer.json())["action"]


async def test_unknown_paths_and_methods_are_said_to_be(server: Server) -> None:
    async with server.get("/nothing") as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json")
    async with server.http.post(f"http://127.0.0.1:{server.port}/static/x") as answer:
        assert answer.status == 405


def test_the_tree_is_created_and_nothing_is_overwritten(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "root"
    create_tree(root)
    assert all((root / directory).is_dir() for directory in tree.DIRECTORIES)
    assert "/static/kernels/" in (root / "README.md").read_text()
    (root / "README.md").write_text("mine")
    (root / "static/kernels/k").write_text("k")
    create_tree(root)
    assert (root / "README.md").read_text() == "mine"
    assert (root / "static/kernels/k").read_text() == "k"


def test_a_root_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StaticRootUnusable):
        create_tree(tmp_path / "file")


async def test_several_ranges_come_as_parts(server: Server) -> None:
    header = {"Range": "bytes=0-3,5000000-5199999,-2"}
    async with server.get("/static/kernels/vmlinuz-ubuntu-22.04", **header) as answer:
        assert answer.status == 206
        assert answer.content_type == "multipart/byteranges"
        reader = aiohttp.MultipartReader.from_response(answer)
        parts = []
        while isinstance(part := await reader.next(), aiohttp.BodyPartReader):
            parts.append((part.headers["Content-Range"], bytes(await part.read())))
    size = len(KERNEL)
    assert parts == [
        (f"bytes 0-3/{size}", KERNEL[:4]),
        (f"bytes 5000000-5199999/{size}", KERNEL[5_000_000:5_200_000]),
        (f"bytes {size - 2}-{size - 1}/{size}", KERNEL[-2:]),
    ]


async def test_a_half_copied_file_is_never_served(server: Server) -> None:
    path = server.root / "static/initramfs/new.gz"
    with path.open("wb") as copy:
        copy.write(b"half")
        copy.flush()
        async with server.get("/static/initramfs/new.gz") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert (await answer.json())["code"] == "file_still_written"
        copy.write(b" and half")
    async with server.get("/static/initramfs/new.gz") as answer:
        assert await answer.read() == b"half and half"


@pytest.mark.parametrize("name", [".initrd.gz.Xy12Ab", "initrd.gz.part", ".env", "initrd.tmp", ".~tmp~"])
async def test_what_is_on_its_way_is_neither_served_nor_listed(server: Server, name: str) -> None:
    (server.root / "static/initramfs" / name).write_bytes(b"half")
    async with server.get(f"/static/initramfs/{name}") as answer:
        assert answer.status == 404
    async with server.get("/api/v1/files/static") as answer:
        assert name not in await answer.text()
    async with server.get("/static/initramfs/") as answer:
        assert name not in await answer.text()


async def test_what_installers_ask_for_may_begin_with_a_dot(server: Server) -> None:
    (server.root / "repos/rocky/9/.treeinfo").write_bytes(b"[general]")
    async with server.get("/repos/rocky/9/.treeinfo") as answer:
        assert await answer.read() == b"[general]"


async def test_a_file_that_changes_while_it_is_sent_is_not_taken_for_whole(server: Server) -> None:
    path = server.root / "static/kernels/big"
    path.write_bytes(bytes(64 << 20))  # more than the sockets hold
    async with server.get("/static/kernels/big") as answer:
        await answer.content.readexactly(1000)
        with path.open("r+b") as writer:
            writer.write(b"other")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_long_listing_comes_in_pages_and_misses_nothing(server: Server) -> None:
    for name in ("a", "b", "b!", "b/c", "b/c/d", "e"):
        path = server.root / "repos/debian/12" / name
        path.mkdir(exist_ok=True) if name == "b" or name == "b/c" else path.write_bytes(b"")
    async with server.get("/api/v1/files/repos") as answer:
        whole = (await answer.json())["files"]
    for limit in (1, 2, 5):
        pages, after = [], ""
        while True:
            async with server.get(f"/api/v1/files/repos?limit={limit}&after={after}") as answer:
                page = await answer.json()
            pages += page["files"]
            assert ("next" in page) == page.get("truncated", False)
            if "next" not in page:
                break
            after = page["next"]
        assert pages == whole
    async with server.get("/api/v1/files/repos?path=/debian/12&depth=1") as answer:
        assert [entry["name"] for entry in (await answer.json())["files"]] == ["Packages.xz", "a", "b", "b!", "e"]


async def test_firmware_is_told_what_an_efi_program_is(server: Server) -> None:
    (server.root / "static/ipxe.efi").write_bytes(b"MZ")
    async with server.get("/static/ipxe.efi") as answer:
        assert answer.headers["Content-Type"] == "application/efi"


async def test_no_target_breaks_the_server(server: Server) -> None:
    """Pieces that matter to paths and queries, put together at random."""
    pieces = [
        "/", "//", "..", ".", "%2e", "%2f", "%00", "%0a", "%", "%zz", "%ff", "\\", "static", "repos", "kernels",
        "api/v1/files",
        "?", "&", "=", "path", "after", "limit", "depth", "0", "99999999999", ";", "#", "+", "a" * 300, "\x7f", "\xe9",
    ]  # fmt: skip
    chance = random.Random(47)
    for _ in range(300):
        target = "/" + "".join(chance.choices(pieces, k=chance.randint(1, 8)))
        for method in ("GET", "HEAD"):
            status, body = await server.raw(target, method)
            assert status in (200, 301, 400, 404, 405), (target, body)
            assert b"hidden words" not in body
