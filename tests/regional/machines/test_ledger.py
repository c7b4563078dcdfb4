"""What a regional knows of machines, over kill -9, damage and a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from proto.regional.v1 import machines_pb2 as pb
from regional.machines import course, ledger
from regional.machines.asking import Ask, Boot, LocalDisk
from regional.machines.ledger import TokenForeign, TokenUnknown
from regional.machines.model import Stage
from regional.machines.store import MachinesNotStored
from regional.machines.words import target_of

from .rack import IMAGE as DIGEST
from .rack import MAC, NOW, Rack, content, distribution_intent, image_intent, raid_operations, target


def boots(rack: Rack, now: float = NOW) -> str:
    answer = rack.doorway.ask(Ask(MAC, ""), now)
    assert isinstance(answer, Boot), answer
    return answer.token


def test_an_installation_goes_on_after_kill_9(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    rack.ledger.change([target(image_intent())], [], NOW, whole=True)
    token = boots(rack)
    rack.kill()
    rack.ledger.act(token, NOW, lambda a, b: course.asks_next(a, b, "1", NOW)[0])
    rack.kill()
    after = rack.ledger.act(token, NOW, lambda a, b: course.ends(a, b, "wipe", "", NOW))
    assert after.install is not None
    assert (after.install.operation, after.install.stage) == (1, Stage.RUNNING)
    assert rack.phases() == ["booting", "installing"]


def test_a_reboot_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    rack.ledger.change([target(pb.InstallIntent(id="i1", operations=raid_operations()))], [], NOW, whole=True)
    first = boots(rack)
    rack.ledger.act(first, NOW, lambda a, b: course.asks_next(a, b, "1", NOW)[0])
    rack.ledger.act(first, NOW, lambda a, b: course.ends(a, b, "raid", "", NOW))
    rack.ledger.act(first, NOW, lambda a, b: course.asks_next(a, b, "2", NOW)[0])
    second = boots(rack, NOW + 60)
    with pytest.raises(TokenForeign):
        rack.ledger.bearer(first)
    after = rack.ledger.act(second, NOW, lambda a, b: course.asks_next(a, b, "3", NOW)[0])
    assert after.install is not None
    assert after.install.operation == 2


def test_a_loop_of_boots_without_a_word_ends(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    rack.ledger.change([target(image_intent())], [], NOW, whole=True)
    for number in range(course.MOST_BOOTS):
        boots(rack, NOW + 60 * number)
    answer = rack.doorway.ask(Ask(MAC, ""), NOW + 6000)
    assert isinstance(answer, LocalDisk)
    assert rack.phases() == ["booting", "failed"]


def test_an_approval_that_is_too_old_installs_nothing(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    intent = image_intent()
    intent.not_after_ms = int(NOW * 1000)
    rack.ledger.change([target(intent)], [], NOW, whole=True)
    assert isinstance(rack.doorway.ask(Ask(MAC, ""), NOW + 1), LocalDisk)
    assert rack.phases() == []


def test_what_the_centre_knows_to_be_consumed_is_not_begun_by_who_knows_nothing(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    intent = image_intent()
    intent.consumed = True
    rack.ledger.change([target(intent)], [], NOW, whole=True)
    assert isinstance(rack.doorway.ask(Ask(MAC, ""), NOW), LocalDisk)


def test_who_began_it_goes_on_when_the_centre_knows(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    intent = image_intent()
    rack.ledger.change([target(intent)], [], NOW, whole=True)
    boots(rack)
    intent.consumed = True
    rack.ledger.change([target(intent)], [], NOW)
    boots(rack, NOW + 60)


def test_a_damaged_file_costs_approvals_and_never_a_second_installation(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    rack.ledger.change([target(image_intent())], [], NOW, whole=True)
    boots(rack)
    rack.store.close()
    for path in tmp_path.glob("machines.db*"):
        path.write_bytes(b"not a database" * 1000)
    rack.kill()
    assert rack.ledger.fresh
    # Changes alone are not everything, so nothing is believed of them yet.
    rack.ledger.change([target(image_intent())], [], NOW, whole=True)
    assert isinstance(rack.doorway.ask(Ask(MAC, ""), NOW), LocalDisk)
    assert rack.phases() == ["failed"]
    rack.ledger.change([target(image_intent("i2"))], [], NOW)
    boots(rack)
    assert (tmp_path / "machines.db.damaged").exists()


def test_a_first_start_is_fresh_and_the_second_is_not(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    assert rack.ledger.fresh
    rack.kill()
    assert not rack.ledger.fresh


def test_what_the_disk_refuses_did_not_happen(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    rack.ledger.change([target(image_intent())], [], NOW, whole=True)
    token = boots(rack)
    before = rack.ledger.install("i1")
    assert rack.store._database is not None
    rack.store._database.execute("PRAGMA query_only = 1")
    for _ in range(2):
        with pytest.raises(MachinesNotStored):
            rack.ledger.act(token, NOW, lambda a, b: course.asks_next(a, b, "1", NOW)[0])
    with pytest.raises(MachinesNotStored):
        rack.ledger.change([], [], NOW, whole=True)
    assert rack.ledger.install("i1") == before
    rack.store._database.execute("PRAGMA query_only = 0")
    rack.ledger.act(token, NOW, lambda a, b: course.asks_next(a, b, "1", NOW)[0])


def test_time_ends_what_does_not_end_by_itself(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    intent = image_intent()
    intent.operations[0].timeout_seconds = 100
    rack.ledger.change([target(intent)], [], NOW, whole=True)
    token = boots(rack)
    rack.ledger.act(token, NOW, lambda a, b: course.asks_next(a, b, "1", NOW)[0])
    rack.ledger.sweep(NOW + 99)
    assert rack.phases() == ["booting", "installing"]
    rack.ledger.sweep(NOW + 101)
    rack.ledger.sweep(NOW + 102)
    assert rack.phases() == ["booting", "installing", "failed"]


def test_whoever_pretends_that_a_machine_booted_again_ends_nothing(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    rack.ledger.change([target(image_intent())], [], NOW, whole=True)
    token = boots(rack)
    rack.ledger.act(token, NOW, lambda a, b: course.asks_next(a, b, "1", NOW)[0])
    rack.doorway.ask(Ask(MAC, ""), NOW + 60)
    rack.ledger.act(token, NOW + 90, lambda a, b: course.progresses(a, b, "wipe", 5, "", NOW + 90))
    rack.ledger.sweep(NOW + 3600)
    assert rack.phases() == ["booting", "installing"]


def test_changes_and_removals_are_kept(tmp_path: Path) -> None:
    rack = Rack(tmp_path)
    other = target(machine="m2", mac="52:54:00:00:00:02")
    rack.ledger.change([target(), other], [], NOW, whole=True)
    rack.ledger.change([target(image_intent())], ["m2"], NOW)
    rack.kill()
    assert [each.machine_id for each in rack.ledger.targets()] == ["m1"]
    boots(rack)
    with pytest.raises(TokenUnknown):
        rack.ledger.bearer("guessed")


def test_a_flood_of_strangers_that_look_around_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_MOST_SESSIONS", 50)
    monkeypatch.setattr(ledger, "_ENDED_AT_ONCE", 10)
    rack = Rack(tmp_path, discover=True)
    rack.ledger.change([target(image_intent())], [], NOW, whole=True)
    token = boots(rack)
    for number in range(200):
        answer = rack.doorway.ask(Ask(f"52:54:00:00:01:{number:02x}", ""), NOW)
        assert isinstance(answer, Boot)
    assert len(rack.ledger._state.sessions) <= 50
    rack.kill()
    assert len(rack.ledger._state.sessions) <= 50
    assert rack.ledger.bearer(token).install is not None


@pytest.mark.parametrize(
    "intent",
    [
        pb.InstallIntent(),
        pb.InstallIntent(id="i1", operations=[pb.Operation(id="new")]),
        pb.InstallIntent(id="i1", boot=pb.BootFiles()),
        pb.InstallIntent(id="i1", operations=[pb.Operation(id="x", image_install=pb.ImageInstall())]),
    ],
)
def test_an_intent_that_is_not_understood_installs_nothing(intent: pb.InstallIntent) -> None:
    found = target_of(target(intent))
    assert found is not None
    assert found.intent is None


def test_a_target_without_an_address_is_left_out() -> None:
    assert target_of(pb.BootTarget(machine_id="m1", macs=["nonsense"])) is None


def test_everything_that_must_be_held_is_known() -> None:
    intent = distribution_intent()
    boot = pb.InstallerBoot(boot=intent.boot)
    intent.operations.insert(0, pb.Operation(id="os", installer_boot=boot))
    intent.operations.insert(0, pb.Operation(id="w", image_install=pb.ImageInstall(content=content(DIGEST))))
    found = target_of(target(intent))
    assert found is not None
    assert found.intent is not None
    assert len(found.intent.contents()) == 3
