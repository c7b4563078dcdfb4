"""Where bytes come from: read once, bounded, never outside the root, never silently short."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from common.errors import Failure
from regional.tftp.boot_files import Directory, FirstOf
from regional.tftp.sheets import Layout, Sheet
from regional.tftp.sources import FileSource, FileUnreadable, Library, MemorySource, NetasciiSource, Source, as_netascii
from tests.pace import BUSY_SECONDS

LAYOUT = Layout(512)
CONTENT = os.urandom(300_000)


async def sheet_of(source: Source, block: int, arrived: asyncio.Event) -> Sheet:
    while True:
        arrived.clear()
        if (sheet := source.sheet(block)) is not None:
            return sheet
        async with asyncio.timeout(BUSY_SECONDS):
            await arrived.wait()


async def all_of(source: Source, arrived: asyncio.Event) -> bytes:
    content, block = b"", 1
    while True:
        sheet = await sheet_of(source, block, arrived)
        packets = [bytes(sheet.stretch(number, number)) for number in range(sheet.first, sheet.last + 1)]
        content += b"".join(packet[4:] for packet in packets)
        if sheet.final:
            return content
        block = sheet.last + 1


@pytest.mark.parametrize(
    "size", [0, 1, 511, 512, LAYOUT.raw_bytes - 1, LAYOUT.raw_bytes, LAYOUT.raw_bytes + 1, 300_000]
)
async def test_files_memory_and_text_come_whole(tmp_path: Path, size: int) -> None:
    path, arrived, failures = tmp_path / "file", asyncio.Event(), list[Failure]()
    content = CONTENT[:size]
    path.write_bytes(content)

    def ready(failure: Failure | None) -> None:
        failures.extend([failure] if failure else [])
        arrived.set()

    library = Library()
    sources: list[tuple[Source, bytes]] = [
        (FileSource(library, library.adopt(library.look_up(path)), LAYOUT, ready), content),
        (MemorySource(content, LAYOUT), content),
        (NetasciiSource(library, library.adopt(library.look_up(path)), LAYOUT, 4, ready), as_netascii(content)),
    ]
    for source, expected in sources:
        assert await all_of(source, arrived) == expected
        source.close()
    library.close()
    assert not failures


async def test_text_goes_back_by_a_window(tmp_path: Path) -> None:
    path, arrived = tmp_path / "text", asyncio.Event()
    path.write_bytes(b"line\n" * 60_000)
    library = Library()
    source = NetasciiSource(library, library.adopt(library.look_up(path)), LAYOUT, 300, lambda _: arrived.set())
    for block in range(1, 500):
        await sheet_of(source, block, arrived)
    for block in range(200, 500):
        assert source.sheet(block) is not None
    source.close()
    library.close()


def test_the_ends_of_lines_in_netascii() -> None:
    assert as_netascii(b"a\nb\rc\r\nd") == b"a\r\nb\r\0c\r\0\r\nd"


async def test_a_file_is_opened_and_read_once_for_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    before = len(os.listdir("/proc/self/fd"))
    library, arrived = Library(), asyncio.Event()
    sources = [
        FileSource(library, library.adopt(library.look_up(path)), LAYOUT, lambda _: arrived.set()) for _ in range(50)
    ]
    assert len(os.listdir("/proc/self/fd")) == before + 1
    first = await sheet_of(sources[0], 1, arrived)
    assert all(source.sheet(5) is first for source in sources)
    for source in sources:
        source.close()
    assert len(os.listdir("/proc/self/fd")) == before
    library.close()


async def test_a_file_that_shrinks_breaks_its_transfers(tmp_path: Path) -> None:
    path, told = tmp_path / "file", asyncio.Queue[Failure | None]()
    path.write_bytes(CONTENT)
    library = Library()
    source = FileSource(library, library.adopt(library.look_up(path)), LAYOUT, told.put_nowait)
    os.truncate(path, 1000)
    assert source.sheet(1) is None
    async with asyncio.timeout(BUSY_SECONDS):
        failure = await told.get()
    assert failure is not None
    assert failure.code == "tftp_file_changed"
    source.close()
    library.close()


async def test_a_published_replacement_is_another_file(tmp_path: Path) -> None:
    path, arrived = tmp_path / "file", asyncio.Event()
    path.write_bytes(CONTENT)
    library = Library()
    old = FileSource(library, library.adopt(library.look_up(path)), LAYOUT, lambda _: arrived.set())
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "new").rename(path)
    new = FileSource(library, library.adopt(library.look_up(path)), LAYOUT, lambda _: arrived.set())
    assert await all_of(new, arrived) == b"new"
    assert await all_of(old, arrived) == CONTENT
    old.close()
    new.close()
    library.close()


async def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "absent", tmp_path / "nul\0"):
        with pytest.raises(FileUnreadable):
            Library.look_up(path)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/file", True),
        ("/a/file", True),
        ("//a//file", True),
        ("\\a\\file", True),
        ("./a/./file", True),
        ("a/inside", True),
        ("", False),
        ("/", False),
        ("..", False),
        ("../secret", False),
        ("a/../../secret", False),
        ("..\\secret", False),
        ("a/outside", False),
        ("out/secret", False),
        ("loop", False),
        ("absent", False),
        ("a/file/beyond", False),
        ("x" * 400, False),
    ],
)
async def test_nothing_outside_the_root_is_found(tmp_path: Path, name: str, found: bool) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "a/file").write_text("file")
    (root / "a/inside").symlink_to("file")
    (root / "a/outside").symlink_to(tmp_path / "secret")
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    answer = await Directory(root).find(name, "192.0.2.1")
    assert answer == (root / "a/file" if found else None)


async def test_the_first_that_knows_a_name_gives_it(tmp_path: Path) -> None:
    class Scripts:
        async def find(self, name: str, client: str) -> bytes | Path | None:
            return f"#!ipxe for {client}".encode() if name == "boot.ipxe" else None

    (tmp_path / "boot.ipxe").write_text("static")
    (tmp_path / "other").write_text("other")
    files = FirstOf((Scripts(), Directory(tmp_path)))
    assert await files.find("boot.ipxe", "192.0.2.9") == b"#!ipxe for 192.0.2.9"
    assert await files.find("other", "192.0.2.9") == tmp_path / "other"
