"""The supervisor over real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from agent.updates.model import MOST_STARTS, State
from tests.agent.updates.versions import DIES, IS_WELL, LIVES_ON, NEW, OTHER, STAYS, Host, Killed, until


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def test_a_version_that_is_well_is_trusted(host: Host) -> None:
    host.install(NEW, "new", IS_WELL)
    async with host.supervised():
        await until(lambda: host.ran() == ["built-in"])
        host.wish(1, NEW)
        await until(lambda: host.state.trusted == NEW)
        assert (host.root / "agent/current").resolve() == host.layout.version(NEW)
    assert host.ran() == ["built-in", "new"]
    async with host.supervised():
        await until(lambda: len(host.ran()) == 3)
    assert host.ran()[-1] == "new"


async def test_a_version_that_dies_is_tried_thrice_and_gone_back_from(host: Host) -> None:
    host.install(NEW, "bad", DIES)
    async with host.supervised():
        host.wish(1, NEW)
        await until(lambda: host.state.refusal is not None)
        (host.root / "end").unlink()
        await until(lambda: host.ran()[-1] == "built-in")
        assert not (host.root / "agent/current").exists()
    assert host.ran().count("bad") == MOST_STARTS
    assert host.state.trusted == ""
    # The same order, told again, is not heeded again.
    lives = len(host.ran())
    async with host.supervised():
        host.wish(1, NEW)
        (host.root / "end").unlink()
        await until(lambda: len(host.ran()) > lives)
    assert host.ran().count("bad") == MOST_STARTS


async def test_a_version_that_never_gets_well_runs_out_of_patience(host: Host) -> None:
    host.install(NEW, "sick", LIVES_ON)
    async with host.supervised():
        host.wish(1, NEW, patience_seconds=0.2)
        await until(lambda: host.state.refusal is not None)
        (host.root / "end").unlink()
        await until(lambda: host.ran()[-1] == "built-in")
    assert host.state.refusal is not None
    assert "within 0 s" in host.state.refusal.reason


async def test_an_older_order_is_not_heeded(host: Host) -> None:
    host.install(NEW, "new", IS_WELL.replace("while :", 'while [ ! -e "$2/again" ]'))
    host.install(OTHER, "older", IS_WELL)
    async with host.supervised():
        host.wish(5, NEW)
        await until(lambda: host.state.trusted == NEW)
        host.wish(4, OTHER)
        (host.root / "again").touch()
        await until(lambda: host.ran().count("new") > 1)
        (host.root / "again").unlink()
    assert "older" not in host.ran()
    assert (host.state.trusted, host.state.last_order) == (NEW, 5)


async def test_a_full_disk_keeps_no_host_without_its_agent(host: Host) -> None:
    def full(word: str) -> None:
        if word.startswith("write"):
            raise OSError(28, "No space left on device")

    host.install(NEW, "new", IS_WELL)
    host.step = full
    async with host.supervised():
        await until(lambda: host.ran() == ["built-in"])
        host.wish(1, NEW)
        await until(lambda: len(host.ran()) > 2)
        assert set(host.ran()) == {"built-in"}
        host.step = lambda _: None
        await until(lambda: host.state.trusted == NEW)
    assert host.ran()[-1] == "new"


async def test_files_that_somebody_removed_are_made_up_for(host: Host) -> None:
    host.install(NEW, "new", IS_WELL)
    async with host.supervised():
        host.wish(1, NEW)
        await until(lambda: host.state.trusted == NEW)
    shutil.rmtree(host.layout.version(NEW))
    (host.root / "end").unlink()
    ran = len(host.ran())
    async with host.supervised():
        await until(lambda: len(host.ran()) > ran)
    assert host.ran()[-1] == "built-in"


@pytest.mark.parametrize("script", [IS_WELL, DIES], ids=["good", "bad"])
async def test_killed_before_any_change_of_the_disk_it_ends_the_same(tmp_path: Path, script: str) -> None:
    """One life after the other, each killed one change later, and the last one not."""
    for change in range(20):
        host = Host(tmp_path / f"{change}")
        host.install(NEW, "new", script)
        host.wish(1, NEW)
        killed = await life(host, change)
        host.step = lambda _: None
        async with host.supervised():
            await until(lambda host=host: settled(host.state))  # type: ignore[misc]
        assert (host.state.trusted == NEW) == (script is IS_WELL)
        assert host.ran().count("new") <= 2 * MOST_STARTS
        if not killed:
            assert change >= 4
            return
    raise AssertionError("it never came through")


async def life(host: Host, changes: int) -> bool:
    """Whether the supervisor died, before its change number `changes`."""
    left = changes

    def step(_: str) -> None:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1

    host.step = step
    async with host.supervised() as running:
        with contextlib.suppress(Killed):
            await until(lambda: running.done() or settled(host.state))
        return running.done()


def settled(state: State) -> bool:
    return state.last_order == 1 and state.trial is None


async def test_a_supervisor_that_stops_takes_the_agent_with_it(host: Host) -> None:
    (host.root / "built-in").write_text('#!/bin/sh\necho $$ > "$2/pid"\n' + STAYS.format(name="x").partition("\n")[2])
    async with host.supervised():
        await until(lambda: (host.root / "pid").exists() and bool((host.root / "pid").read_text()))
    with pytest.raises(ProcessLookupError):
        os.kill(int((host.root / "pid").read_text()), 0)
