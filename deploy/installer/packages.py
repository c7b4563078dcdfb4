"""Debian's packages: fetched by apt into a folder, never installed, and read file by file.

Invariant: a folder that `packages.json` describes needs no network any more, and makes the same environment again.
Blocking.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.digest import Digest
from deploy.installer.errors import PackagesUnavailable
from deploy.installer.recipe import Recipe

_LIST = "packages.json"
_DEPENDENCIES = (
    *("--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"),
    "--no-enhances",
)
# Only libraries are followed: what else a package depends on is for an installed system.
_LIBRARY = re.compile(r"(lib|zlib)[a-z0-9.+-]*")
# 80 MB from a slow mirror.
_SECONDS = 900

Command = Callable[[Sequence[str], Path], str]


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str
    path: Path


def run(words: Sequence[str], folder: Path) -> str:
    """Raises `PackagesUnavailable`."""
    try:
        done = subprocess.run(
            words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=_SECONDS
        )
    except FileNotFoundError:
        raise PackagesUnavailable(
            f"there is no {words[0]}", action="make the installer environment on Debian, or copy it from there"
        ) from None
    except subprocess.TimeoutExpired:
        raise PackagesUnavailable(f"{words[0]} took longer than {_SECONDS} s", action="try again") from None
    except subprocess.CalledProcessError as failure:
        said = (failure.stderr or failure.stdout or "").strip().splitlines()
        raise PackagesUnavailable(
            f"{' '.join(words[:2])} failed: {said[-1] if said else failure.returncode}",
            action="run `apt-get update` as root, look at the message, try again",
        ) from None
    return done.stdout


def fetch(recipe: Recipe, folder: Path, *, refresh: bool = False, command: Command = run) -> list[Package]:
    """Those in `folder` if they are whole and for this recipe, else today's. Raises `PackagesUnavailable`."""
    kept = [] if refresh else _kept(recipe, folder)
    if kept:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.deb"):
        old.unlink()
    names = _names(recipe, folder, command)
    # Root gives its rights away for downloads, and may then not write to this folder.
    command(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *names], folder)
    found = [_package(path) for path in sorted(folder.glob("*.deb"))]
    listed = [[each.name, each.version, each.path.name, str(Digest.of(each.path.read_bytes()))] for each in found]
    (folder / _LIST).write_text(json.dumps({"recipe": recipe.key, "packages": listed}, indent=1) + "\n")
    return found


def files(package: Package) -> Iterator[tuple[str, tarfile.TarInfo, Callable[[], bytes]]]:
    """Each file and link of it: path without a leading slash, what it is, and its content, to be read at once or never.
    Raises `PackagesUnavailable`.
    """
    words = ["dpkg-deb", "--fsys-tarfile", str(package.path)]
    try:
        unpacker = subprocess.Popen(words, stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise PackagesUnavailable("there is no dpkg-deb", action="install dpkg") from None
    with unpacker, tarfile.open(fileobj=unpacker.stdout, mode="r|") as content:
        for member in content:
            if member.isfile() or member.issym():
                yield member.name.removeprefix("./"), member, partial(_content, content, member)
    if unpacker.returncode:
        raise PackagesUnavailable(f"{package.path.name} cannot be unpacked", action="try again with --refresh")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    return opened.read() if opened is not None else b""


def _kept(recipe: Recipe, folder: Path) -> list[Package]:
    try:
        said: Mapping[str, object] = json.loads((folder / _LIST).read_text())
        listed = said["packages"]
        if said["recipe"] != recipe.key or not isinstance(listed, list):
            return []
        found = [Package(name, version, folder / file) for name, version, file, _ in listed]
        whole = all(str(Digest.of((folder / file).read_bytes())) == digest for _, _, file, digest in listed)
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return found if whole else []


def _names(recipe: Recipe, folder: Path, command: Command) -> list[str]:
    said = command(["apt-cache", "depends", recipe.kernel], folder)
    kernel = next((word for word in said.split() if re.match(r"linux-image-[0-9]", word)), "")
    if not kernel:
        raise PackagesUnavailable(f"apt names no kernel for {recipe.kernel}", action="run `apt-get update` as root")
    closure = command(["apt-cache", "depends", *_DEPENDENCIES, *recipe.programs], folder)
    libraries = {line for line in closure.splitlines() if _LIBRARY.fullmatch(line)}
    return sorted({kernel, *recipe.programs, *libraries})


def _package(path: Path) -> Package:
    name, version, _ = path.name.split("_", 2)
    return Package(name, version.replace("%3a", ":"), path)
