"""Real package clients install from `/repos/`: apt, debootstrap and dnf, from files and through a mirror."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.lifecycle import Lifecycle
from regional.front import open_front
from regional.metrics import Metrics
from regional.settings import RegionalSettings
from regional.tree import create_tree
from tests.engines.fixtures import running
from tests.engines.processes import installed_program

from .package_repositories import Deb, debian_repository, red_hat_repository, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="installing packages needs root")

# What debootstrap believes every system to have.
BASE = [
    Deb("base-files", "required", directories=("dev", "etc", "proc", "sys", "tmp", "var/lib", "var/cache")),
    Deb("dpkg", "required"),
    Deb("apt", "important"),
    Deb("hello", depends="dpkg"),
]


def installed(program: str) -> str:
    with running(program, installed_program(program, "packages")) as path:
        return path


@asynccontextmanager
async def regional(directory: Path, mirrors: str = "") -> AsyncIterator[tuple[str, Metrics]]:
    create_tree(directory / "files")
    settings = RegionalSettings(
        idc="east", data=directory / "data", static_root=directory / "files", api_port=0, mirrors=mirrors
    )
    metrics = Metrics()
    async with Lifecycle() as lifecycle:
        port, _ = await open_front(settings, lifecycle, SystemClock(), random.Random(1).random, metrics, [])
        yield f"http://127.0.0.1:{port}/repos", metrics


@asynccontextmanager
async def debian(tmp_path: Path, *, mirrored: bool = False) -> AsyncIterator[str]:
    """URL of a Debian repository: of our own files, or read through from such a regional."""
    installed("dpkg-deb")
    async with regional(tmp_path / "origin") as (origin, _):
        repository = tmp_path / "origin/files/repos/debian/12"
        await asyncio.to_thread(debian_repository, repository, tmp_path, BASE)
        if not mirrored:
            yield f"{origin}/debian/12"
            return
        async with regional(tmp_path / "edge", f"debian/12={origin}/debian/12") as (edge, _):
            yield f"{edge}/debian/12"


def apt(directory: Path, url: str, *arguments: str) -> str:
    state, etc = directory / "apt", directory / "apt/etc"
    for name in ("state/lists/partial", "cache/archives/partial", "etc"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (etc / "sources.list").write_text(f"deb [trusted=yes arch=amd64] {url} stable main\n")
    (etc / "apt.conf").write_text(
        f'Dir::State "{state}/state"; Dir::State::status "{state}/status"; Dir::Cache "{state}/cache";\n'
        f'Dir::Etc "{etc}"; Dir::Etc::parts "none"; Dir::Etc::sourceparts "none"; APT::Architecture "amd64";\n'
        'APT::Architectures { "amd64"; }; APT::Sandbox::User "root"; Acquire::http::Proxy "DIRECT";\n'
        'Acquire::Languages "none"; Acquire::Check-Valid-Until "false"; Acquire::Retries "0";\n'
    )
    return run("env", f"APT_CONFIG={etc / 'apt.conf'}", installed("apt-get"), *arguments, home=directory)


@pytest.mark.parametrize("mirrored", [False, True], ids=["files", "mirror"])
async def test_apt_updates_and_downloads(tmp_path: Path, mirrored: bool) -> None:
    async with debian(tmp_path, mirrored=mirrored) as url:
        said = await asyncio.to_thread(apt, tmp_path, url, "update")
        assert "Get:" in said
        assert "Hit:" in await asyncio.to_thread(apt, tmp_path, url, "update")
        await asyncio.to_thread(apt, tmp_path, url, "download", "hello", "base-files")
        await asyncio.to_thread(apt, tmp_path, url, "install", "--download-only", "--yes", "hello")
    for name in ("hello", "base-files"):
        downloaded = tmp_path / f"{name}_1.0+b1_amd64.deb"
        pool = tmp_path / f"origin/files/repos/debian/12/pool/main/{name[0]}/{name}/{downloaded.name}"
        assert downloaded.read_bytes() == pool.read_bytes()


async def test_debootstrap_makes_a_system(tmp_path: Path) -> None:
    program = installed("debootstrap")
    async with debian(tmp_path) as url:
        target = tmp_path / "target"
        options = ("--foreign", "--variant=minbase", "--no-check-gpg", "--arch=amd64", "--no-merged-usr")
        await asyncio.to_thread(run, program, *options, "stable", str(target), url, home=tmp_path)
    assert (target / "usr/share/base-files/words").read_text().startswith("words of base-files")
    assert (target / "debootstrap/debootstrap").is_file()


@pytest.mark.parametrize("mirrored", [False, True], ids=["files", "mirror"])
async def test_dnf_installs(tmp_path: Path, mirrored: bool) -> None:
    program = installed("dnf")
    async with regional(tmp_path / "origin") as (origin, _):
        repository = tmp_path / "origin/files/repos/rocky/9/BaseOS"
        await asyncio.to_thread(red_hat_repository, repository, tmp_path)
        async with regional(tmp_path / "edge", f"rocky/9={origin}/rocky/9") as (edge, metrics):
            url = f"{edge if mirrored else origin}/rocky/9/BaseOS"
            target, cache = tmp_path / "target", tmp_path / "dnf"
            options = (
                f"--installroot={target}", "--releasever=9", "--forcearch=x86_64", "--assumeyes", "--nogpgcheck",
                "--noplugins", "--setopt=reposdir=/nowhere", f"--setopt=cachedir={cache}", f"--setopt=logdir={cache}",
                f"--setopt=persistdir={cache}", f"--repofrompath=here,{url}", "--setopt=proxy=",
            )  # fmt: skip
            await asyncio.to_thread(run, program, *options, "install", "hello", home=tmp_path)
            assert (b'outcome="fetched"' in metrics.exposition()) is mirrored
    assert (target / "usr/share/hello/words").read_text() == "words of hello\n"
