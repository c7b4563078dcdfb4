"""A throwaway PostgreSQL: initdb, one server on loopback, many databases.

It trusts everybody on loopback and does not fsync unless asked to: 0.6 s from nothing to ready.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg

from tests.engines import EngineCannotRun
from tests.engines.listeners import free_port, owns_port
from tests.engines.processes import SEARCH_PATH, Process, find_program, guarded
from tests.engines.scratch import scratch_directory

_READY_SECONDS = 30
_GONE_SECONDS = 10


class PostgresEngine:
    """A running server. Names of databases are the caller's and must be plain identifiers."""

    def __init__(self, programs: str, directory: Path, user: str | None, *, fsync: bool = False) -> None:
        self._postgres = find_program("postgres", "postgresql", programs)
        self._directory = directory
        self._user = user
        self._fsync = "on" if fsync else "off"
        self.port = free_port()
        self.process = self._launch()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def run(self, statement: str, database: str = "postgres") -> None:
        """One statement outside any transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def create_database(self, name: str, template: str = "template0") -> str:
        """Returns its URL. Copying our template takes about 30 ms."""
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Ends its sessions first."""
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def kill(self) -> None:
        """SIGKILL to the postmaster, and gone with its children when this returns: one that has not noticed yet still
        answers.
        """
        children = psutil.Process(self.process.pid).children()
        self.process.kill()
        _, alive = psutil.wait_procs(children, timeout=_GONE_SECONDS)
        if alive:
            raise TimeoutError(f"PostgreSQL's {alive} outlived it for {_GONE_SECONDS} s")

    def stop(self) -> None:
        # SIGINT is the "fast" shutdown: sessions are ended, what was committed is written.
        self.process.stop(10, signal.SIGINT)

    def start(self) -> None:
        """After `kill` or `stop`: the same data on the same port."""
        self.process = self._launch()

    def _launch(self) -> Process:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._directory),
            "max_connections": "200",
            "fsync": self._fsync,
            "synchronous_commit": self._fsync,
            "full_page_writes": self._fsync,
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "autovacuum": "off",
            "jit": "off",
            # In its data directory, so that nothing of a killed server outlives it in /dev/shm.
            "dynamic_shared_memory_type": "mmap",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        process = Process(
            [self._postgres, "-D", str(self._directory / "data"), "-p", str(self.port), *options],
            self._directory / "log",
            user=self._user,
            parent_death_signal="QUIT",  # the postmaster takes its children along
        )
        process.wait_ready(self._answers, _READY_SECONDS)
        if not owns_port(process.pid, self.port):
            process.stop()
            raise EngineCannotRun(f"our PostgreSQL does not own port {self.port}")
        return process

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@contextlib.contextmanager
def postgres_engine(*, fsync: bool = False) -> Iterator[PostgresEngine]:
    programs = _newest_programs()
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    with scratch_directory("pg", in_memory=True) as directory:
        _initialise(programs, directory, user)
        engine = PostgresEngine(programs, directory, user, fsync=fsync)
        try:
            yield engine
        finally:
            engine.stop()


def _newest_programs() -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return f"{versions[-1]}:{SEARCH_PATH}" if versions else SEARCH_PATH


def _initialise(programs: str, directory: Path, user: str | None) -> None:
    initdb = find_program("initdb", "postgresql", programs)
    data = directory / "data"
    data.mkdir(mode=0o700)
    if user is not None:
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            raise EngineCannotRun("there is no user postgres, whom the server must run as") from None
        shutil.chown(data, account.pw_uid, account.pw_gid)
        shutil.chown(directory, account.pw_uid, account.pw_gid)  # for the unix socket
    made = subprocess.run(
        [
            *guarded("KILL", user),
            *(initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"},
    )
    if made.returncode != 0:
        raise EngineCannotRun(f"initdb failed: {made.stderr.strip()[-500:]}")
