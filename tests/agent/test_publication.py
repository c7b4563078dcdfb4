"""Names are given in batches, each after its bytes are durable, and a failure is its own alone."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.publication import Publication


def made(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(name.encode())
    return path


def test_a_file_is_linked_beside_its_source_and_again_without_harm(tmp_path: Path) -> None:
    source, name = made(tmp_path, "source"), tmp_path / "sha256" / "ab" / "abcd"
    for _ in range(2):
        Publication().link(source, name)
    assert name.samefile(source)


def test_one_that_fails_fails_alone(tmp_path: Path) -> None:
    publication = Publication()
    names = [tmp_path / f"{one:02}" / "name" for one in range(20)]
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(publication.link, made(tmp_path, f"s{name.parent.name}"), name) for name in names]
        bad = pool.submit(publication.link, tmp_path / "nothing", tmp_path / "00" / "other")
    assert isinstance(bad.exception(), FileNotFoundError)
    assert all(future.exception() is None for future in good)
    assert all(name.exists() for name in names)
    assert not (tmp_path / "00" / "other").exists()


def test_those_who_come_meanwhile_share_a_batch_and_names_follow_durable_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of system calls is the promise; only watching them shows it without cutting the power."""
    calls: list[str] = []
    first, go = threading.Event(), threading.Event()
    fsync, link = os.fsync, os.link

    def watched_fsync(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        first.set()
        go.wait(10)
        fsync(descriptor)

    def watched_link(source: Path, name: Path) -> None:
        calls.append("name")
        link(source, name)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", watched_link)
    publication = Publication()
    folder = tmp_path / "ab"
    folder.mkdir()
    with ThreadPoolExecutor(8) as pool:
        alone = pool.submit(publication.link, made(tmp_path, "a"), folder / "a")
        first.wait(10)
        together = [pool.submit(publication.link, made(tmp_path, name), folder / name) for name in "bcd"]
        while len(publication._waiting) < 3:
            pass
        go.set()
    assert not [one for one in (alone, *together) if one.exception()]
    assert calls == ["file", "name", "folder", *["file"] * 3, *["name"] * 3, "folder"]
