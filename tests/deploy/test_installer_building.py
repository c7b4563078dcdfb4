"""From packages to a kernel and an initial file system: the same bytes, whole files, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from common.digest import Digest
from control_plane.cli.image_source import open_image
from deploy.installer import building, packages
from deploy.installer.__main__ import main
from deploy.installer.building import Installer, Options, build
from deploy.installer.errors import PackageIncomplete, PackagesUnavailable
from deploy.installer.recipe import AMD64, Recipe
from tests.regional.machines.installer_machine import unpacked

from .elf_files import module, program

RECIPE = Recipe(
    "amd64", "linux-image-amd64", "ld.so",
    programs={"busybox-static": {"bin/busybox": "bin/busybox"}, "tool": {"sbin/tool": "bin/tool"}},
    parts={},
    modules=("card",),
)  # fmt: skip
FILES: Mapping[str, Mapping[str, bytes]] = {
    "linux-image-6.1.0-9-amd64": {
        "boot/vmlinuz-6.1.0-9-amd64": b"kernel",
        "lib/modules/6.1.0-9-amd64/kernel/net/card.ko": module("alias=pci:*", "depends=bus"),
        "lib/modules/6.1.0-9-amd64/kernel/bus.ko": module("depends="),
        "lib/modules/6.1.0-9-amd64/kernel/other.ko": module("depends="),
    },
    "busybox-static": {"bin/busybox": program(), "usr/share/doc/busybox": b"words"},
    "tool": {"usr/sbin/tool": program("libtool.so.1")},
    "libtool": {"usr/lib/x86_64-linux-gnu/libtool.so.1.2": program()},
    "libc6": {"lib/x86_64-linux-gnu/ld.so": program()},
}
LINKS = {"libtool": {"usr/lib/x86_64-linux-gnu/libtool.so.1": "libtool.so.1.2"}}
needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb")


class Mirror:
    """apt's two words, from packages made here. `calls` as they came; `without`: a package that it has lost."""

    def __init__(self, folder: Path, moment: int = 1_700_000_000) -> None:
        self._folder, self._moment = folder, moment
        self.calls: list[str] = []
        self.without = ""

    def __call__(self, words: Sequence[str], folder: Path) -> str:
        self.calls.append(words[1] if words[0] == "apt-cache" else "download")
        if words[0] == "apt-cache" and "--recurse" not in words:
            return "linux-image-amd64\n  Depends: linux-image-6.1.0-9-amd64\n"
        if words[0] == "apt-cache":
            return "\n".join(["busybox-static", "tool", "  Depends: libc6", "libtool", "libc6", "debconf", "|other"])
        for name in words[words.index("download") + 1 :]:
            if name != self.without:
                self._package(name, folder)
        return ""

    def _package(self, name: str, folder: Path) -> None:
        root = self._folder / name
        for path, content in FILES[name].items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
            os.utime(root / path, (self._moment, self._moment))
        for path, to in LINKS.get(name, {}).items():
            if not (root / path).is_symlink():
                (root / path).symlink_to(to)
        (root / "DEBIAN").mkdir(exist_ok=True)
        fields = f"Package: {name}\nVersion: 1:2.3-4\nArchitecture: amd64\nMaintainer: M <m@example>\nDescription: d\n"
        (root / "DEBIAN/control").write_text(fields)
        made = folder / f"{name}_1%3a2.3-4_amd64.deb"
        words = ["dpkg-deb", "--build", "--root-owner-group", "-Znone", str(root), str(made)]
        subprocess.run(words, check=True, capture_output=True)


def fetched(tmp_path: Path, name: str, mirror: Mirror) -> Path:
    cache = tmp_path / name
    packages.fetch(RECIPE, cache, command=mirror)
    return cache


@needs_dpkg
def test_the_same_packages_make_the_same_bytes(tmp_path: Path) -> None:
    caches = [fetched(tmp_path, f"c{n}", Mirror(tmp_path / f"m{n}", 1_700_000_000 + 7 * n)) for n in range(2)]
    made = [build(tmp_path / f"out{n}", cache=cache, recipe=RECIPE) for n, cache in enumerate(caches)]
    first, second = ([path.read_bytes() for path in (one.kernel, one.initrd, one.manifest)] for one in made)
    assert first == second


@needs_dpkg
def test_what_is_made_holds_the_scripts_the_programs_and_the_modules(tmp_path: Path) -> None:
    made = build(tmp_path / "out", cache=fetched(tmp_path, "c", Mirror(tmp_path / "m")), recipe=RECIPE)
    found = unpacked(gzip.decompress(made.initrd.read_bytes()))
    assert {"init", "longshore/install", "bin/busybox", "bin/tool", "lib/libtool.so.1", "lib/ld.so"} <= set(found)
    base = "lib/modules/6.1.0-9-amd64"
    assert {name for name in found if name.endswith(".ko")} == {f"{base}/card.ko", f"{base}/bus.ko"}
    assert found[f"{base}/modules.dep"][1] == b"bus.ko: \ncard.ko: bus.ko\n"
    said = json.loads(made.manifest.read_text())
    assert (said["kernel_release"], said["packages"]["libtool"]) == ("6.1.0-9-amd64", "1:2.3-4")
    for file in said["files"]:
        content = (tmp_path / "out" / file["name"]).read_bytes()
        assert (file["size"], file["digest"]) == (len(content), str(Digest.of(content)))
    assert not list((tmp_path / "out").rglob(".*"))


@needs_dpkg
def test_packages_are_fetched_once_and_again_when_they_are_damaged(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "m")
    cache = fetched(tmp_path, "c", mirror)
    packages.fetch(RECIPE, cache, command=mirror)
    assert mirror.calls == ["depends", "depends", "download"]
    next(cache.glob("tool_*.deb")).write_bytes(b"half")
    packages.fetch(RECIPE, cache, command=mirror)
    packages.fetch(replace(RECIPE, programs={"tool": {"sbin/tool": "bin/tool"}}), cache, command=mirror)
    assert mirror.calls.count("download") == 3


@needs_dpkg
def test_firmware_and_an_image_layout_are_made_on_request(tmp_path: Path) -> None:
    (tmp_path / "firmware/bnx2").mkdir(parents=True)
    (tmp_path / "firmware/bnx2/card.fw").write_bytes(b"blob")
    options = Options(firmware=tmp_path / "firmware", layout=tmp_path / "layout")
    made = build(tmp_path / "out", cache=fetched(tmp_path, "c", Mirror(tmp_path / "m")), recipe=RECIPE, options=options)
    found = unpacked(gzip.decompress(made.initrd.read_bytes()))
    assert found["lib/firmware/bnx2/card.fw"][1] == b"blob"
    image = open_image(tmp_path / "layout", tmp_path / "scratch")
    kernel, initrd = json.loads(image.payload)["layers"]
    assert [kernel["annotations"]["org.opencontainers.image.title"], initrd["digest"]] == [
        building.KERNEL,
        str(Digest.of(made.initrd.read_bytes())),
    ]
    assert {blob.digest for blob in image.all_blobs()} >= {Digest.parse(each["digest"]) for each in (kernel, initrd)}


@needs_dpkg
def test_a_program_that_no_package_brings_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "m")
    mirror.without = "tool"
    with pytest.raises(PackageIncomplete, match="bin/tool"):
        build(tmp_path / "out", cache=fetched(tmp_path, "c", mirror), recipe=RECIPE)
    assert not (tmp_path / "out").exists()


def test_a_kernel_that_apt_does_not_know_is_said(tmp_path: Path) -> None:
    with pytest.raises(PackagesUnavailable, match="names no kernel"):
        packages.fetch(RECIPE, tmp_path / "c", command=lambda _words, _folder: "")


def test_a_program_that_is_not_here_is_said(tmp_path: Path) -> None:
    with pytest.raises(PackagesUnavailable, match="there is no not-a-program"):
        packages.run(["not-a-program"], tmp_path)
    with pytest.raises(PackagesUnavailable, match="apt-get update"):
        packages.run(["false"], tmp_path)


def test_the_command_says_why_nothing_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "packages").write_text("a file where a folder should be")
    assert main([str(tmp_path / "out"), "--packages", str(tmp_path / "packages")]) == 1
    assert "installer: " in capsys.readouterr().err


@pytest.mark.engine("installer")
def test_the_real_environment_knows_the_cards_and_disks_of_racks_and_stays_small(installer: Installer) -> None:
    made = installer
    assert made.kernel.stat().st_size < 16 << 20
    assert made.initrd.stat().st_size < 24 << 20
    found = unpacked(gzip.decompress(made.initrd.read_bytes()))
    names = {Path(name).name for name in found}
    cards = "e1000e igb igc ixgbe i40e ice tg3 bnxt_en mlx5_core r8169 virtio_net vmxnet3 hv_netvsc ena"
    disks = "nvme ahci ata_piix megaraid_sas mpt3sas smartpqi hpsa virtio_blk virtio_scsi vmw_pvscsi hv_storvsc sd_mod"
    assert not [name for name in f"{cards} {disks}".split() if f"{name}.ko" not in names]
    index = next(content for name, (_, content) in found.items() if name.endswith("modules.dep")).decode()
    assert {word.rstrip(":") for word in index.split()} <= names
    programs = {"busybox", "zstd", "kexec", "sfdisk", "mtools", "qemu-img", "perl"}
    assert programs <= names
    assert set(AMD64.programs) <= set(json.loads(made.manifest.read_text())["packages"])


@pytest.mark.engine("installer")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the root")
def test_every_program_runs_with_nothing_but_the_environment(tmp_path: Path, installer: Installer) -> None:
    archive = gzip.decompress(installer.initrd.read_bytes())
    wanted = {name: at for name, at in unpacked(archive).items() if not name.endswith(".ko")}
    for name, (mode, content) in wanted.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode & 0o170000 == 0o120000:
            path.symlink_to(content.decode())
        elif mode & 0o170000 == 0o100000:
            path.write_bytes(content)
            path.chmod(mode & 0o777)
    (tmp_path / "bin/mformat").symlink_to("mtools")
    (tmp_path / "image").write_bytes(bytes(4 << 20))
    init = (tmp_path / "init").read_text()
    assert "GCONV_PATH=/lib/gconv" in init
    for words in (
        "busybox true", "zstd --version", "kexec --version", "sfdisk --version", "qemu-img --version", "perl -v",
        "mformat -i /image -T 8192 -h 64 -s 32 -v CIDATA ::",
    ):  # fmt: skip
        run = ["chroot", str(tmp_path), *f"/bin/{words}".split()]
        done = subprocess.run(
            run, env={"PATH": "/sbin:/usr/sbin:/bin:/usr/bin", "GCONV_PATH": "/lib/gconv"}, capture_output=True
        )
        assert done.returncode == 0, (words, done.stderr)
