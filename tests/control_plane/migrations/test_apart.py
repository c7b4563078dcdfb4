"""Migrations in a process of their own: what it finds is said here, and nothing of it stays."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.pace import BUSY_SECONDS

# In a process of its own, because that of the tests has threads and must not be forked.
_PROGRAM = """
import sys
from common.errors import Failure
from control_plane.migrations import apart
apart._MIGRATE = sys.argv[2]
sys.path.insert(0, sys.argv[3])
try:
    print("at", apart.upgraded(sys.argv[1]))
except Failure as failure:
    print(failure.code, failure)
print("alembic" in sys.modules)
"""


def start(database: Path, migrate: str = "control_plane.migrations.migrate") -> list[str]:
    command = [sys.executable, "-c", _PROGRAM, f"sqlite:///{database}", migrate, str(database.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=6 * BUSY_SECONDS)
    return done.stdout.splitlines()


def names(database: Path) -> list[tuple[str]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute("SELECT name FROM sqlite_master").fetchall()
    finally:
        connection.close()


def test_a_database_is_made_and_found_made_and_nothing_of_it_stays(tmp_path: Path) -> None:
    made = start(tmp_path / "one.db")
    assert made[0].startswith("at 0")
    assert made[1] == "False"
    assert start(tmp_path / "one.db") == made


def test_a_database_of_a_newer_version_is_refused_in_words_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "one.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()

    refused = start(tmp_path / "one.db")[0]

    assert refused.startswith("database_not_upgraded the database is at revision 9999")
    assert names(tmp_path / "one.db") == [("alembic_version",)]


def test_a_process_that_dies_without_a_word_is_no_upgrade(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text("import os\nos._exit(9)\n")
    answer = start(tmp_path / "one.db", "dying")[0]
    assert answer.startswith("internal the process that upgrades the database ended with status")
    assert names(tmp_path / "one.db") == []
