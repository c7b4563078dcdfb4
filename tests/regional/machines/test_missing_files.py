"""A machine that is told to boot what nobody published: its timeline says so, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from .boots import running_site
from .rack import MAC


@pytest.mark.parametrize("name", ["kernels/longshore-installer", "initramfs/longshore-installer.gz"])
async def test_an_installer_environment_that_was_never_made_is_said(tmp_path: Path, name: str) -> None:
    async with running_site(tmp_path, boot_strangers="discover") as site:
        token = await site.token()
        (site.static / name).unlink()
        status, _ = await site.get(f"{site.base}/boot/s/{token}/{'kernel' if 'kernels' in name else 'initrd0'}")
        assert status == 404
        [trouble] = [event.detail for event in site.machines.timeline.events(MAC) if event.trouble]
        assert f"/static/{name} is not there: make it with `make installer`" in trouble
