"""The newest migration is known by its name, without Alembic."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from control_plane.database.engine import with_driver
from control_plane.migrations import apart, migrate
from control_plane.migrations.revision import newest


def test_the_newest_migration_is_the_one_that_alembic_would_run_last() -> None:
    assert newest() == ScriptDirectory(str(Path(migrate.__file__).parent)).get_current_head()


def test_a_database_that_is_up_to_date_needs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = with_driver(f"sqlite:///{tmp_path}/longshore.db")
    assert apart.upgraded(url) == newest()
    monkeypatch.delattr("os.fork")
    assert apart.upgraded(url) == newest()
