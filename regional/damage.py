"""Telling a damaged SQLite file from one that cannot be used at the moment; pure.

A disk that is full or away says nothing about what is on it, and what is on it may be all that is known here while the
centre is away. Invariant: only SQLite's own word for damage makes anybody set a file aside.
"""

from __future__ import annotations

import sqlite3


def is_damage(error: sqlite3.Error) -> bool:
    """Without a code it is a finding of ours, such as a check that failed."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return (code & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
