"""The parts of which the installer environment is made: archives, indexes of modules, libraries."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.installer import libraries, modules
from deploy.installer.archive import Entry, initial_file_system
from deploy.installer.building import SCRIPTS
from deploy.installer.errors import PackageIncomplete
from tests.regional.machines.installer_machine import unpacked

from .elf_files import module, program

NAMES = st.lists(st.text("abcxyz-.", min_size=1, max_size=9).filter(lambda name: name.strip(".") != ""), min_size=1)
PATHS = NAMES.map(lambda parts: "/".join(f"d{part}" for part in parts[:-1]) + f"/f{parts[-1]}").map(
    lambda path: path.lstrip("/")
)


@given(st.dictionaries(PATHS, st.tuples(st.binary(max_size=40), st.booleans()), max_size=6), st.randoms())
def test_an_archive_holds_what_was_given_in_whatever_order(files, shuffled) -> None:  # type: ignore[no-untyped-def]
    names = list(files)
    shuffled.shuffle(names)
    entries = {name: Entry(*files[name]) for name in names}
    packed = initial_file_system(entries)
    assert packed == initial_file_system({name: entries[name] for name in sorted(names)})
    found = unpacked(gzip.decompress(packed))
    assert {name: content for name, (mode, content) in found.items() if mode & 0o100000} == {
        name: content for name, (content, _) in files.items()
    }
    assert {name for name, (mode, _) in found.items() if mode == 0o100755} == {n for n in files if files[n][1]}


@pytest.mark.parametrize("shell", ["busybox sh", "dash"])
def test_both_shells_understand_every_script(shell: str) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"no {shell}")
    scripts = [path for path in SCRIPTS.rglob("*") if path.name not in ("neighbours", "gconv-modules")]
    assert {"init", "install", "lease", "images"} <= {path.name for path in scripts}
    for path in filter(Path.is_file, scripts):
        done = subprocess.run([*shell.split(), "-n", str(path)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), path


@pytest.mark.skipif(shutil.which("busybox") is None, reason="no busybox")
def test_busybox_unpacks_an_archive(tmp_path: Path) -> None:
    entries = {"bin/x": Entry(b"run"), "etc/y": Entry(b"read", executable=False), "lib64": Entry(b"lib", link=True)}
    archive = gzip.decompress(initial_file_system(entries))
    words = ["busybox", "cpio", "-i", "-d"]
    subprocess.run(words, cwd=tmp_path, input=archive, check=True, capture_output=True)
    assert ((tmp_path / "bin/x").read_bytes(), (tmp_path / "etc/y").read_bytes()) == (b"run", b"read")
    assert (tmp_path / "bin/x").stat().st_mode & 0o777 == 0o755
    assert str((tmp_path / "lib64").readlink()) == "lib"


CARD = modules.read(
    "drivers/net/ethernet/maker/fast-card.ko",
    module("license=GPL", "alias=pci:v00008086d*", "alias=pci:v00001924d*", "depends=mdio,fast-bus"),
)
BUS = modules.read("drivers/bus/fast-bus.ko", module("depends=", "softdep=pre: crc32c post: other", "alias=bus:*"))
MDIO = modules.read("drivers/net/mdio/mdio.ko", module("depends=fast_bus"))
CRC = modules.read("crypto/crc32c.ko.xz", module("alias=crypto-crc32c"))
OTHER = modules.read("drivers/video/screen.ko", module("depends=mdio"))
ALL = [CARD, BUS, MDIO, CRC, OTHER]


@pytest.mark.parametrize("wanted", ["fast-card", "fast_card", "drivers/net/ethernet/maker", "drivers/net/ethernet"])
def test_a_module_comes_with_all_that_it_needs(wanted: str) -> None:
    found = modules.chosen(ALL, [wanted, "not-of-this-kernel"])
    assert [each.name for each in found] == ["crc32c", "fast_bus", "fast_card", "mdio"]


def test_the_indexes_say_what_to_load_first_and_for_what() -> None:
    made = modules.indexes(modules.chosen(ALL, ["fast-card"]))
    assert b"fast_card.ko: mdio.ko fast_bus.ko\n" in made["modules.dep"]
    assert b"fast_bus.ko: \n" in made["modules.dep"]
    assert b"alias pci:v00008086d* fast_card\nalias pci:v00001924d* fast_card\n" in made["modules.alias"]
    assert made["modules.softdep"] == b"softdep fast_bus pre: crc32c\n"


def test_a_file_that_is_no_module_has_nothing_to_say() -> None:
    with_nothing = modules.read("x/y.ko", module("license=GPL"))
    assert (with_nothing.needs, with_nothing.aliases) == ((), ())


def test_a_program_comes_with_its_libraries_and_their_loader() -> None:
    shelf = {"liba.so.1": program("libb.so.2"), "libb.so.2": program("ld.so"), "ld.so": b"", "libc.so": b""}
    assert set(libraries.closure([program("liba.so.1")], shelf, "ld.so")) == {"liba.so.1", "libb.so.2", "ld.so"}


def test_a_static_program_and_a_script_need_nothing() -> None:
    assert libraries.closure([program(), b"#!/bin/sh\n"], {}, "ld.so") == {}


def test_a_library_that_no_package_brings_is_said_by_name() -> None:
    with pytest.raises(PackageIncomplete, match=r"liba\.so\.1"):
        libraries.closure([program("liba.so.1")], {"ld.so": b""}, "ld.so")
