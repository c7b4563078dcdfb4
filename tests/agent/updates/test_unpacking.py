from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.updates import unpacking
from agent.updates.layout import ENTRY, Layout
from agent.updates.unpacking import VersionUnusable, install

DIGEST = "a" * 64


def archive(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size, info.mode = len(member[1]), 0o755
                tar.addfile(info, io.BytesIO(member[1]))
    return gzip.compress(buffer.getvalue())


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


PROGRAM = (ENTRY, b"#!/bin/sh\n")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "agent")
    made.prepare()
    return made


def put(tmp_path: Path, *layers: bytes) -> list[Path]:
    paths = []
    for number, data in enumerate(layers):
        paths.append(tmp_path / f"layer-{number}")
        paths[-1].write_bytes(data)
    return paths


def test_layers_become_one_directory(layout: Layout, tmp_path: Path) -> None:
    layers = put(tmp_path, archive(PROGRAM, ("lib/a", b"1")), archive(("lib/a", b"2"), ("lib/b", b"3")))
    install(layout, DIGEST, layers)
    assert layout.installed(DIGEST)
    assert (layout.version(DIGEST) / "lib/a").read_bytes() == b"2"
    install(layout, DIGEST, [])  # harmless to repeat
    assert sorted(path.name for path in layout.versions.iterdir()) == [DIGEST]


@pytest.mark.parametrize(
    "layer",
    [
        archive(PROGRAM, ("../outside", b"x")),
        archive(PROGRAM, ("/etc/outside", b"x"), special("up", tarfile.SYMTYPE, "../../..")),
        archive(PROGRAM, special("absolute", tarfile.SYMTYPE, "/etc/passwd")),
        archive(PROGRAM, special("device", tarfile.CHRTYPE)),
        archive(PROGRAM, special("hard", tarfile.LNKTYPE, "../../secret")),
        archive(("readme", b"no program")),
        archive(special(ENTRY, tarfile.DIRTYPE)),
        archive(PROGRAM)[:40],
        b"no archive",
        b"",
    ],
    # An archive's bytes hold the second in which it was made: no name for a test.
    ids=[
        "above",
        "linked above",
        "symlink",
        "device",
        "hard link",
        "no program",
        "a directory",
        "cut",
        "noise",
        "empty",
    ],
)
def test_what_is_no_version_is_never_published(layout: Layout, tmp_path: Path, layer: bytes) -> None:
    with pytest.raises(VersionUnusable):
        install(layout, DIGEST, put(tmp_path, layer))
    assert not layout.installed(DIGEST)
    assert not (tmp_path / "outside").exists()


def test_no_more_is_unpacked_than_bounded(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_MOST_FILES", 3)
    with pytest.raises(VersionUnusable, match="more than 3 files"):
        install(layout, DIGEST, put(tmp_path, archive(PROGRAM, *((f"f{n}", b"") for n in range(5)))))


def test_setuid_bits_are_left_behind(layout: Layout, tmp_path: Path) -> None:
    info = tarfile.TarInfo("su")
    info.mode = 0o4755
    install(layout, DIGEST, put(tmp_path, archive(PROGRAM, info)))
    assert (layout.version(DIGEST) / "su").stat().st_mode & 0o7000 == 0


def test_killed_before_any_change_of_the_disk_a_version_is_whole_or_absent(tmp_path: Path) -> None:
    (layer,) = put(tmp_path, archive(PROGRAM, ("lib/a", b"1")))
    for change in range(5):
        root = tmp_path / f"{change}"
        if not died(lambda step, root=root: install(prepared(root, step), DIGEST, [layer]), change):  # type: ignore[misc]
            assert change == 2
            return
        assert not Layout(root).installed(DIGEST)
        install(Layout(root), DIGEST, [layer])
        assert Layout(root).installed(DIGEST)
    raise AssertionError("it never came through")


def prepared(root: Path, step: Callable[[str], None]) -> Layout:
    layout = Layout(root, step)
    layout.prepare()
    return layout


def died(act: Callable[[Callable[[str], None]], object], change: int) -> bool:
    left = [change]

    def step(_: str) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1

    try:
        act(step)
    except KeyboardInterrupt:
        return True
    return False


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600))
def test_noise_is_refused(tmp_path: Path, data: bytes) -> None:
    layout = Layout(tmp_path / "noise")
    layout.prepare()
    with pytest.raises(VersionUnusable):
        install(layout, DIGEST, put(tmp_path, data))
