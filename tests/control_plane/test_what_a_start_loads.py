"""What the settings do not choose is not loaded: these packages are extras, and memory kept for nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from control_plane.backing import CHOSEN, EngineMissing, chosen

# What each costs a server is in docs/decisions/0053-what-a-control-plane-keeps-in-memory.md.
_NOT_CHOSEN = ("alembic", "boto3", "botocore", "redis", "s3transfer")


def test_a_server_loads_no_client_of_an_engine_that_it_may_not_have() -> None:
    program = f"import sys, control_plane.program; print([name for name in {_NOT_CHOSEN!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("engine", CHOSEN)
def test_each_engine_that_settings_can_choose_is_there(engine: str) -> None:
    assert callable(chosen(engine))


def test_an_engine_whose_client_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = CHOSEN["cache on redis"]
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(EngineMissing, match=r"redis\.asyncio is not installed"):
        chosen("cache on redis")
    monkeypatch.undo()
    importlib.import_module(module)
