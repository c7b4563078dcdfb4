"""Our `/v2/` on a real socket, for clients that are not ours."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from sqlalchemy import Table, create_engine
from starlette.applications import Starlette

from common.clock import SystemClock
from control_plane.blobs.filesystem import FilesystemBlobStore
from control_plane.database import Database, outbox
from control_plane.database.schema import metadata
from control_plane.registry import tables
from control_plane.registry.routes import build_routes
from control_plane.registry.service import RegistryService
from control_plane.registry.upload_names import UploadNames
from control_plane.registry.v2 import Options
from tests.control_plane.registry.people import Credentials, Directory
from tests.engines.processes import wait_until


@dataclass(frozen=True)
class ServedRegistry:
    """`address` is host:port. People and passwords are those of tests/control_plane/registry/people.py."""

    address: str
    root: Path

    def blob_files(self) -> list[Path]:
        return sorted(path for path in (self.root / "blobs" / "blobs").rglob("*") if path.is_file())

    def pending_uploads(self) -> list[Path]:
        return list((self.root / "blobs" / "uploads").iterdir())


@contextlib.contextmanager
def served_registry(root: Path) -> Iterator[ServedRegistry]:
    """One uvicorn in a thread, on a free port of the loopback; SQLite and a directory beneath."""
    url = f"sqlite:///{root}/registry.db"
    engine = create_engine(url)
    metadata.create_all(engine, tables=[outbox.outbox, *_registry_tables()])
    engine.dispose()
    server = uvicorn.Server(
        uvicorn.Config(_application(url, root), host="127.0.0.1", port=0, log_level="warning", access_log=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert wait_until(lambda: server.started, 10)
    try:
        yield ServedRegistry(f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", root)
    finally:
        server.should_exit = True
        thread.join(10)


def _registry_tables() -> list[Table]:
    return [each for each in vars(tables).values() if isinstance(each, Table)]


def _application(url: str, root: Path) -> Starlette:
    clock, people = SystemClock(), Credentials()
    database = Database(url, clock)
    blobs = FilesystemBlobStore(root / "blobs", reserve_bytes=0)
    names = UploadNames([b"the same after a restart"])
    registry = RegistryService(database, blobs, Directory("acme", "birch"), clock, names=names)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await blobs.close()
        await database.close()

    return Starlette(routes=build_routes(registry, people, people, people, Options()), lifespan=lifespan)


def main() -> None:
    """`python -m tests.registry_clients.serving DIRECTORY`: as a process of its own, to be killed. Prints its port."""
    with served_registry(Path(sys.argv[1])) as registry:
        print(registry.address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
