"""Where the settings lead: the places that replicas share, and combinations that cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.settings import Settings, SettingsInvalid, load_settings


def test_keys_and_blobs_are_in_the_data_directory_unless_they_are_shared(tmp_path: Path) -> None:
    alone = Settings(data=tmp_path)
    assert (alone.key_directory, alone.blob_directory) == (tmp_path / "secrets", tmp_path / "registry")
    shared = {"data": tmp_path / "a", "secrets_directory": tmp_path / "keys", "blobs": {"directory": tmp_path / "b"}}
    replica = load_settings(None, shared)
    assert (replica.key_directory, replica.blob_directory) == (tmp_path / "keys", tmp_path / "b")


def test_jobs_are_left_to_a_worker_only_where_it_can_hear_of_them() -> None:
    assert Settings().jobs.embedded
    with pytest.raises(SettingsInvalid, match=r"jobs\.embedded: without Redis"):
        load_settings(None, {"jobs": {"embedded": False}})
    together = {"jobs": {"embedded": False}, "redis": {"url": "redis://127.0.0.1:1/0"}}
    assert not load_settings(None, together).jobs.embedded
