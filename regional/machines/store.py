"""What must survive kill -9 and power loss while the centre is away: boot targets, how far each intent is, tokens of
boots, and reports that nobody acknowledged. SQLite, one transaction a change.

Invariant: what `write` was given is on the disk when it returns, all of it or, if it raises, nothing. A file that
cannot be read is set aside, and then `forgot` says that nobody knows which intents were begun. Blocking.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog

from common.errors import Unavailable
from regional.damage import is_damage
from regional.machines.model import Install, Session, Stage

log = structlog.get_logger()

# 100,000 reports of about 300 bytes; beyond them what only describes the way leaves first.
MOST_REPORTS = 100_000
_SESSION_DAYS = 7 * 86_400.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS targets (machine_id TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS installs (intent_id TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    hash TEXT NOT NULL PRIMARY KEY, mac TEXT NOT NULL, machine_id TEXT NOT NULL, intent_id TEXT NOT NULL,
    issued_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, stream TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS reports_stream ON reports (stream) WHERE stream != '';
CREATE TABLE IF NOT EXISTS facts (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class MachinesNotStored(Unavailable):
    """The disk refuses; nothing was changed, and nothing may be promised."""

    code = "machines_not_stored"


@dataclass(frozen=True, slots=True)
class Report:
    """`stream` not empty: describes the way, and a newer one of the same stream replaces it while it waits."""

    id: str
    body: bytes
    stream: str = ""


@dataclass(slots=True)
class Change:
    """One transaction. `targets`: by machine, None removes; `whole`: those not named go as well."""

    targets: Mapping[str, bytes | None] = field(default_factory=dict)
    whole: bool = False
    installs: Sequence[Install] = ()
    sessions: Mapping[str, Session] = field(default_factory=dict)
    reports: Sequence[Report] = ()
    remembered: bool = False
    ended_sessions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """`fresh`: there was no file. `forgot`: there was one, and nobody can read it."""

    targets: dict[str, bytes]
    installs: dict[str, Install]
    sessions: dict[str, Session]
    forgot: bool
    fresh: bool


class Store:
    """`path` is ours alone. `trouble`: why nothing was written last; empty: it was."""

    def __init__(self, path: Path, most_reports: int = MOST_REPORTS) -> None:
        self.trouble = ""
        self._path = path
        self._most_reports = most_reports
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._sent = 0

    def open(self, now: float) -> Known:
        """Raises `MachinesNotStored` if not even a new file can be made."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = not self._path.exists()
        try:
            self._database = self._connect()
            known = self._load(now, fresh=fresh)
        except sqlite3.DatabaseError as error:
            self.close()
            if not is_damage(error):
                raise _not_stored(error) from error
            log.error("what was known of machines is not readable, set aside", path=str(self._path), error=str(error))
            for suffix in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self._path}{suffix}").replace(f"{self._path}.damaged{suffix}")
            self._database = self._connect()
            with self._transaction() as database:
                database.execute("INSERT INTO facts VALUES ('forgot', '1')")
            known = self._load(now, fresh=True)
        return known

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def write(self, change: Change) -> None:
        """Raises `MachinesNotStored`; then nothing changed."""
        with self._transaction() as database:
            if change.whole:
                database.execute("DELETE FROM targets")
            for machine_id, body in change.targets.items():
                if body is None:
                    database.execute("DELETE FROM targets WHERE machine_id = ?", (machine_id,))
                else:
                    database.execute("INSERT OR REPLACE INTO targets VALUES (?, ?)", (machine_id, body))
            database.executemany(
                "INSERT OR REPLACE INTO installs VALUES (?, ?)",
                [(each.intent_id, json.dumps(asdict(each))) for each in change.installs],
            )
            database.executemany(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?)",
                [(key, s.mac, s.machine_id, s.intent_id, s.issued_at) for key, s in change.sessions.items()],
            )
            database.executemany("DELETE FROM sessions WHERE hash = ?", [(key,) for key in change.ended_sessions])
            if change.remembered:
                database.execute("DELETE FROM facts WHERE name = 'forgot'")
            self._add(database, change.reports)

    def unsent(self, most: int, most_bytes: int) -> list[tuple[int, bytes]]:
        """The oldest reports with their numbers; they are not replaced any more until `forget` or `unsend`."""
        with self._reading() as database:
            rows = database.execute("SELECT number, body FROM reports ORDER BY number LIMIT ?", (most,)).fetchall()
        taken, size = list[tuple[int, bytes]](), 0
        for number, body in rows:
            size += len(body)
            if taken and size > most_bytes:
                break
            taken.append((number, body))
        self._sent = taken[-1][0] if taken else 0
        return taken

    def unsend(self) -> None:
        self._sent = 0

    def forget(self, numbers: Iterable[int]) -> None:
        """Acknowledged."""
        with self._transaction() as database:
            database.executemany("DELETE FROM reports WHERE number = ?", [(number,) for number in numbers])
        self._sent = 0

    def count_reports(self) -> int:
        with self._reading() as database:
            return int(database.execute("SELECT count(*) FROM reports").fetchone()[0])

    def _add(self, database: sqlite3.Connection, reports: Sequence[Report]) -> None:
        for report in reports:
            if report.stream:
                database.execute("DELETE FROM reports WHERE stream = ? AND number > ?", (report.stream, self._sent))
            database.execute(
                "INSERT INTO reports (id, stream, body) VALUES (?, ?, ?)", (report.id, report.stream, report.body)
            )
        if reports:
            database.execute(
                "DELETE FROM reports WHERE stream != '' AND number <= (SELECT max(number) FROM reports) - ?",
                (self._most_reports,),
            )

    def _load(self, now: float, *, fresh: bool) -> Known:
        with self._transaction() as database:
            database.execute("DELETE FROM sessions WHERE issued_at < ?", (now - _SESSION_DAYS,))
            targets = dict(database.execute("SELECT machine_id, body FROM targets").fetchall())
            installs = {key: _install(body) for key, body in database.execute("SELECT * FROM installs").fetchall()}
            sessions = {row[0]: Session(*row[1:]) for row in database.execute("SELECT * FROM sessions").fetchall()}
            forgot = database.execute("SELECT 1 FROM facts WHERE name = 'forgot'").fetchone() is not None
        return Known(targets, installs, sessions, forgot, fresh)

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=5)
        try:
            # WAL with FULL: each commit is fsynced, and readers need not wait for it.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("the quick check found damage")
            database.executescript(_SCHEMA)
            self._path.chmod(0o600)
        except sqlite3.Error:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
                self.trouble = ""
            except BaseException as error:
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    failure = _not_stored(error)
                    self.trouble = failure.detail
                    raise failure from error
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._database is None:
                raise MachinesNotStored("the store of machines is closed", action="try again in a moment")
            yield self._database


def _not_stored(error: sqlite3.DatabaseError) -> MachinesNotStored:
    return MachinesNotStored(
        f"the state of machines could not be written: {error}",
        action="free space in the data directory, or look after its disk",
        retry_after_seconds=10,
    )


def _install(body: str) -> Install:
    fields = json.loads(body)
    return Install(**{**fields, "stage": Stage(fields["stage"])})
