"""From Debian's packages to a kernel and an initial file system, with a list of what they are.

Invariants: the same packages and the same scripts make the same bytes; each file appears whole, the list last.
Blocking: some 20 s.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from common.digest import Digest
from common.durable import write_file
from deploy.installer import libraries, modules, packages
from deploy.installer.archive import Entry, initial_file_system
from deploy.installer.errors import PackageIncomplete
from deploy.installer.layout import write_layout
from deploy.installer.packages import Package
from deploy.installer.recipe import AMD64, Recipe

SCRIPTS = Path(__file__).parent / "environment"
# Where a regional looks for them below /static, unless it is told otherwise (regional/settings.py).
KERNEL, INITRD = "kernels/longshore-installer", "initramfs/longshore-installer.gz"
MANIFEST = "longshore-installer.json"


@dataclass(frozen=True, slots=True)
class Installer:
    kernel: Path
    initrd: Path
    manifest: Path


@dataclass(frozen=True, slots=True)
class Options:
    """`refresh`: today's packages; `firmware`: a folder of files for cards that need some; `layout`: where to write an
    OCI image layout as well.
    """

    refresh: bool = False
    firmware: Path | None = None
    layout: Path | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """`versions`: of the packages."""

    kernel: bytes
    initrd: bytes
    release: str
    versions: Mapping[str, str]


class _Found:
    """What is taken out of the packages."""

    def __init__(self) -> None:
        self.kernel = b""
        self.release = ""
        self.programs: dict[str, bytes] = {}
        self.libraries: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self.modules: list[modules.Module] = []


def build(directory: Path, *, cache: Path, recipe: Recipe = AMD64, options: Options | None = None) -> Installer:
    """Into `directory`, which may be the `/static` of a regional. `cache`: where packages lie. Raises
    `PackagesUnavailable`, `PackageIncomplete` and `OSError`.
    """
    chosen = options or Options()
    made = make(recipe, packages.fetch(recipe, cache, refresh=chosen.refresh), chosen.firmware)
    found = Installer(directory / KERNEL, directory / INITRD, directory / MANIFEST)
    for path, content in ((found.kernel, made.kernel), (found.initrd, made.initrd)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content, mode=0o644)
    write_file(found.manifest, manifest(recipe, made), mode=0o644)
    if chosen.layout is not None:
        notes = {"longshore.kernel-release": made.release, "longshore.architecture": recipe.architecture}
        write_layout(chosen.layout, [(KERNEL, made.kernel), (INITRD, made.initrd)], notes)
    return found


def make(recipe: Recipe, fetched: Sequence[Package], firmware: Path | None = None) -> Made:
    """Raises `PackageIncomplete` and `PackagesUnavailable`."""
    found = _Found()
    for package in fetched:
        _take(package, recipe, found)
    entries = {**_system(recipe, found), **_modules(recipe, found), **_firmware(firmware), **_scripts()}
    versions = {each.name: each.version for each in fetched}
    return Made(found.kernel, initial_file_system(entries), found.release, versions)


def manifest(recipe: Recipe, made: Made) -> bytes:
    files = {KERNEL: made.kernel, INITRD: made.initrd}
    said = {
        "architecture": recipe.architecture,
        "kernel_release": made.release,
        "files": [
            {"name": name, "size": len(content), "digest": str(Digest.of(content))} for name, content in files.items()
        ],
        "packages": dict(sorted(made.versions.items())),
    }
    return (json.dumps(said, indent=2) + "\n").encode()


def _take(package: Package, recipe: Recipe, found: _Found) -> None:
    programs = recipe.programs.get(package.name, {})
    is_kernel = package.name.startswith("linux-image-")
    for path, member, content in packages.files(package):
        name = PurePosixPath(path).name
        if member.issym():
            found.links[name] = PurePosixPath(member.linkname).name
        elif is_kernel and path.startswith("boot/vmlinuz-"):
            found.kernel, found.release = content(), name.removeprefix("vmlinuz-")
        elif is_kernel and "/kernel/" in path and ".ko" in name:
            found.modules.append(modules.read(path.split("/kernel/", 1)[1], _unpacked(name, content())))
        elif path in programs or f"usr/{path}" in programs or path.removeprefix("usr/") in programs:
            target = programs.get(path) or programs.get(f"usr/{path}") or programs[path.removeprefix("usr/")]
            found.programs[target] = content()
        elif part := next((kept for end, kept in recipe.parts.items() if path.endswith(end)), ""):
            found.programs[part] = content()
        elif ".so" in name and not programs and not is_kernel and "/lib/" in f"/{path}":
            found.libraries[name] = content()


def _unpacked(name: str, content: bytes) -> bytes:
    """Debian 13 compresses modules; busybox's modprobe need not know that."""
    return lzma.decompress(content) if name.endswith(".xz") else content


def _system(recipe: Recipe, found: _Found) -> dict[str, Entry]:
    wanted = [target for files in (*recipe.programs.values(), recipe.parts) for target in files.values()]
    missing = [name for name in wanted if name not in found.programs]
    if missing or not found.kernel:
        raise PackageIncomplete(f"no package brings {', '.join(missing) or 'a kernel'}", action="look at the recipe")
    named = {
        **found.libraries,
        **{name: found.libraries[to] for name, to in found.links.items() if to in found.libraries},
    }
    shared = libraries.closure(found.programs.values(), named, recipe.loader)
    entries = {name: Entry(content) for name, content in found.programs.items()}
    entries |= {f"lib/{name}": Entry(content) for name, content in shared.items()}
    # Programs name the loader by /lib64 on amd64 and by /lib on arm64.
    entries["lib64"] = Entry(b"lib", link=True)
    return entries


def _modules(recipe: Recipe, found: _Found) -> dict[str, Entry]:
    chosen = modules.chosen(found.modules, recipe.modules)
    base = f"lib/modules/{found.release}"
    files = {f"{each.name}.ko": each.content for each in chosen} | dict(modules.indexes(chosen))
    return {f"{base}/{name}": Entry(content, executable=False) for name, content in files.items()}


def _firmware(folder: Path | None) -> dict[str, Entry]:
    if folder is None:
        return {}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {f"lib/firmware/{path.relative_to(folder)}": Entry(path.read_bytes(), executable=False) for path in paths}


def _scripts() -> dict[str, Entry]:
    return {str(name): Entry(path.read_bytes()) for name, path in _files_of(SCRIPTS)}


def _files_of(folder: Path) -> Iterator[tuple[Path, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder), path
