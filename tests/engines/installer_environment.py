"""The installer environment, made once of Debian's packages and again when what makes it has changed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import deploy.installer
from common.digest import Digest
from common.errors import Failure
from deploy.installer import building, packages
from deploy.installer.building import Installer
from deploy.installer.recipe import AMD64
from tests.engines import EngineCannotRun

STORE = Path("/var/cache/longshore-tests/installer")
PACKAGES = STORE / "packages"
_CODE = Path(deploy.installer.__file__).parent


def install(apt_get: Callable[..., None]) -> None:
    """Blocking; needs the network. Its own apt-get is used, for downloads alone."""
    packages.fetch(AMD64, PACKAGES)


def installed() -> bool:
    return (PACKAGES / "packages.json").exists()


@contextlib.contextmanager
def installer_engine() -> Iterator[Installer]:
    """As the other engines: raises `EngineCannotRun` when it is entered."""
    yield installer()


def installer() -> Installer:
    """Blocking: some 20 s if it was not made yet. Raises `EngineCannotRun`."""
    if not installed():
        raise EngineCannotRun("no packages for the installer; run `python -m tests.engines.install installer` as root")
    files = [path for path in sorted(_CODE.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    code = Digest.of(b"".join(path.read_bytes() for path in (*files, PACKAGES / "packages.json")))
    made = STORE / f"made-{code.hex[:16]}"
    with (STORE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = Installer(made / building.KERNEL, made / building.INITRD, made / building.MANIFEST)
        if not found.manifest.exists():
            _forget_old_ones()
            try:
                building.build(made, cache=PACKAGES)
            except (Failure, OSError) as failure:
                raise EngineCannotRun(f"the installer cannot be made: {failure}") from failure
    return found


def _forget_old_ones() -> None:
    """All but the newest few: another run may still use the one before this."""
    made = sorted(STORE.glob("made-*"), key=lambda path: path.stat().st_mtime)
    for path in made[:-3]:
        shutil.rmtree(path, ignore_errors=True)
