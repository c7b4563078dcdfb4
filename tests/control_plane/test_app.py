"""What the composition root refuses before anything runs."""

from pathlib import Path

import pytest

from common.clock import ManualClock
from common.discovery.etcd import EtcdCaUnreadable
from control_plane.backing import open_backing
from control_plane.settings import load_settings


async def test_an_etcd_ca_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    settings = load_settings(None, {"data": tmp_path, "etcd": {"endpoints": ["127.0.0.1:2379"], "ca_file": missing}})
    with pytest.raises(EtcdCaUnreadable, match=r"ca\.pem cannot be read"):
        open_backing(settings, ManualClock())
