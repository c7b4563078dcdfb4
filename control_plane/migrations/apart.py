"""Bring the database to this version in a process of its own, which ends with it.

Alembic, its templates and the migrations are 15 MB that a server would keep for as long as it runs, for the tenth of a
second in which it needs them (docs/decisions/0053-what-a-control-plane-keeps-in-memory.md). The process is forked, so
nothing else is imported twice.

Invariant: called before threads or an event loop exist; what the child finds wrong is raised here in its words.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import traceback
from typing import Any, NoReturn

from common.errors import Conflict, Failure, Internal
from control_plane.migrations.revision import current, newest

_MIGRATE = "control_plane.migrations.migrate"


class DatabaseNotUpgraded(Conflict):
    """Another version owns the database, or it is away."""

    code = "database_not_upgraded"


def upgraded(url: str) -> str | None:
    """Run what is missing; the revision that the database then has. Raises `DatabaseNotUpgraded`, `Internal`.

    Where nothing is missing, which is so at all starts but the first of a version, no process is made (0.5 s).
    """
    # What is wrong with the database is said by the process that upgrades it.
    with contextlib.suppress(Failure):
        if (there := asyncio.run(current(url))) == newest():
            return there
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _upgrade_and_exit(url, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if not said:
        raise Internal(
            f"the process that upgrades the database ended with status {status} and said nothing",
            action="look for its last words in the log, and start again: what it had begun was rolled back",
        )
    answer: dict[str, Any] = json.loads(said)
    if "failure" in answer:
        raise DatabaseNotUpgraded(answer["failure"], action=answer["action"])
    revision: str | None = answer["revision"]
    return revision


def _upgrade_and_exit(url: str, writing: int) -> NoReturn:
    # Whatever happens, nothing of the parent's may run here a second time: not its handlers, not its callers.
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(_answer(url)).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _answer(url: str) -> dict[str, str | None]:
    migrate = importlib.import_module(_MIGRATE)
    try:
        return {"revision": asyncio.run(migrate.upgrade(url))}
    except Failure as failure:
        return {"failure": failure.detail, "action": failure.action}
