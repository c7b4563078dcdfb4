"""Package repositories made on the spot: a few tiny packages as Debian and Red Hat lay them out."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.engines.processes import SEARCH_PATH, find_program


@dataclass(frozen=True)
class Deb:
    name: str
    priority: str = "optional"
    depends: str = ""
    directories: tuple[str, ...] = ()


def run(*command: str, home: Path) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, cwd=home,
        env={"PATH": SEARCH_PATH, "HOME": str(home), "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def debian_repository(root: Path, work: Path, packages: list[Deb]) -> None:
    """Suite `stable`, component `main`, amd64, with by-hash and without a signature."""
    entries = "\n".join(_deb(root, work, package) for package in packages)
    index = root / "dists/stable/main/binary-amd64"
    index.mkdir(parents=True)
    plain = entries.encode()
    for name, data in (("Packages", plain), ("Packages.gz", gzip.compress(plain, mtime=0))):
        (index / name).write_bytes(data)
        (index / "by-hash/SHA256").mkdir(parents=True, exist_ok=True)
        (index / "by-hash/SHA256" / hashlib.sha256(data).hexdigest()).write_bytes(data)
    sums = "".join(
        f" {hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} main/binary-amd64/{path.name}\n"
        for path in (index / "Packages", index / "Packages.gz")
    )
    (root / "dists/stable/Release").write_text(
        "Origin: Longshore tests\nSuite: stable\nCodename: stable\nArchitectures: amd64\nComponents: main\n"
        f"Date: Sat, 01 Jan 2022 00:00:00 UTC\nAcquire-By-Hash: yes\nSHA256:\n{sums}"
    )


def _deb(root: Path, work: Path, package: Deb) -> str:
    """Its stanza in `Packages`."""
    tree = work / f"deb-{package.name}"
    share = tree / "usr/share" / package.name
    share.mkdir(parents=True)
    (share / "words").write_text(f"words of {package.name}\n" * 1000)
    for directory in (*package.directories, "DEBIAN"):
        (tree / directory).mkdir(parents=True)
    control = (
        f"Package: {package.name}\nVersion: 1.0+b1\nArchitecture: amd64\nPriority: {package.priority}\n"
        "Maintainer: Tests <tests@example.com>\nDescription: made by a test\n"
    )
    if package.depends:
        control += f"Depends: {package.depends}\n"
    (tree / "DEBIAN/control").write_text(control)
    name = f"pool/main/{package.name[0]}/{package.name}/{package.name}_1.0+b1_amd64.deb"
    path = root / name
    path.parent.mkdir(parents=True)
    run(
        find_program("dpkg-deb", "packages"), "--root-owner-group", "-Zgzip", "--build", str(tree), str(path), home=work
    )
    data = path.read_bytes()
    return f"{control}Filename: {name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"


def red_hat_repository(root: Path, work: Path) -> None:
    """One package, `hello`, with /usr/share/hello/words."""
    specification = work / "hello.spec"
    specification.write_text(
        "Name: hello\nVersion: 1.0\nRelease: 1\nSummary: made by a test\nLicense: none\nBuildArch: noarch\n"
        "%description\nmade by a test\n%install\nmkdir -p %{buildroot}/usr/share/hello\n"
        "echo words of hello > %{buildroot}/usr/share/hello/words\n%files\n/usr/share/hello/words\n"
    )
    packages = root / "Packages/h"
    packages.mkdir(parents=True)
    run(
        find_program("rpmbuild", "packages"), "-bb", "--define", f"_topdir {work}/rpm",
        "--define", f"_rpmdir {packages}", "--define", "_rpmfilename %%{NAME}-%%{VERSION}.rpm", str(specification),
        home=work,
    )  # fmt: skip
    run(find_program("createrepo_c", "packages"), "--quiet", str(root), home=work)
