"""Words of machines that are somebody else's: on every route, without a token, with an invented one, with one of an
earlier boot, of another machine, of a stranger, and of an installation that is over. Nothing changes, nothing is given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proto.regional.v1 import machines_pb2 as pb

from .boots import Site, running_site
from .rack import MAC, distribution_intent, image_operations, target

OTHER_MAC, STRANGER = "52:54:00:00:00:02", "52:54:00:00:00:09"
WORDS = (
    "report",
    "isInInstallQueue",
    "getNextOperation",
    "getHardwareConfig",
    "progress",
    "operationComplete",
    "operationFailed",
)
BODY = {"attempt": "9", "operation": "raid", "percent": 50, "text": "x", "message": "x", "hardware": {"serial": "SN-1"}}


def intent(intent_id: str) -> pb.InstallIntent:
    operations = [pb.Operation(id="raid", hardware_config=pb.Script(name="raid", content=b"true"))]
    document = pb.Document(name="ks.cfg", media_type="text/plain", content=b"secret\n", secret=True)
    return pb.InstallIntent(id=intent_id, operations=[*operations, *image_operations()[2:]], documents=[document])


@dataclass
class Rack:
    """`m1` installs and is in the middle of its first operation; `m2` installs too; somebody looks around."""

    site: Site
    token: str
    earlier: str
    other: str
    stranger: str

    def state(self) -> tuple[Any, ...]:
        ledger = self.site.machines.ledger
        return (ledger.install("i1"), ledger.install("i2"), [each.SerializeToString() for each in self.site.reports()])


@pytest.fixture
async def rack(tmp_path: Path) -> AsyncIterator[Rack]:
    async with running_site(tmp_path, boot_strangers="discover") as site:
        machines = (
            target(intent("i1"), serial="SN-1"),
            target(intent("i2"), machine="m2", mac=OTHER_MAC, serial="SN-2"),
        )
        await site.approve(*machines)
        earlier = await site.token(serial="SN-1")
        site.clock.tick(60)
        token = await site.token(serial="SN-1")
        other, stranger = await site.token(OTHER_MAC, "SN-2"), await site.token(STRANGER, "SN-9")
        assert (await site.say("getNextOperation", token, sn="SN-1", attempt="1"))[0] == 200
        yield Rack(site, token, earlier, other, stranger)


async def everywhere(rack: Rack, token: str, **body: Any) -> set[int]:
    """What each route answers, in each way that a token can be said."""
    site, said = rack.site, {**BODY, **body}
    found: set[int] = set()
    for word in WORDS:
        found.add((await site.say(word, token, **said))[0])
        ways: list[tuple[str, dict[str, Any]]] = [(f"/api/v1/device/{word}", {**said, "token": token})]
        ways += [(f"/api/v1/device/{token}/{word}", said)] if token else []
        ways += [(f"/api/v1/{word}", {**said, "token": token})] if word in ("report", "progress") else []
        for path, spoken in ways:
            async with site.http.post(site.base + path, json=spoken) as answer:
                found.add(answer.status)
                assert "secret" not in await answer.text()
    return found


async def files(rack: Rack, token: str) -> set[int]:
    found: set[int] = set()
    for name in ("kernel", "initrd0", "image", "os-kernel", "os-initrd0", "documents/ks.cfg"):
        status, data = await rack.site.get(f"{rack.site.base}/boot/s/{token}/{name}")
        found.add(status)
        assert b"secret" not in data
    return found


async def test_without_a_token_nothing_is_heard(rack: Rack) -> None:
    before = rack.state()
    assert await everywhere(rack, "", sn="SN-1", mac=MAC) == {401}
    assert rack.state() == before


@pytest.mark.parametrize("token", ["f" * 43, "../../x", "'; --", "Ä" * 20, "x" * 5000])
async def test_an_invented_token_is_worth_nothing(rack: Rack, token: str) -> None:
    before = rack.state()
    for word in WORDS:
        async with rack.site.http.post(
            f"{rack.site.base}/api/v1/device/{word}", json={**BODY, "token": token}
        ) as answer:
            assert answer.status == 401
    if token.isalnum() and token.isascii():
        assert await everywhere(rack, token, sn="SN-1", mac=MAC) <= {401, 404}
        assert await files(rack, token) <= {401, 404}
    assert rack.state() == before


async def test_an_earlier_boot_is_not_heard_any_more(rack: Rack) -> None:
    before = rack.state()
    assert await everywhere(rack, rack.earlier, sn="SN-1", mac=MAC) == {403}
    assert await files(rack, rack.earlier) == {403}
    assert rack.state() == before


async def test_another_machines_token_says_nothing_of_this_one(rack: Rack) -> None:
    before = rack.state()
    assert await everywhere(rack, rack.other, sn="SN-1", mac=OTHER_MAC) == {403}
    assert await everywhere(rack, rack.other, sn="SN-2", mac=MAC) == {403}
    assert rack.state() == before


async def test_a_stranger_reports_itself_and_installs_nothing(rack: Rack) -> None:
    before = rack.state()
    assert await everywhere(rack, rack.stranger, sn="SN-9", mac=MAC) == {403}
    assert rack.state() == before
    answered = {word: (await rack.site.say(word, rack.stranger, sn="SN-9", **BODY))[0] for word in WORDS}
    assert {word for word, status in answered.items() if status == 200} == {
        "report",
        "isInInstallQueue",
        "getHardwareConfig",
    }
    assert (await rack.site.say("getHardwareConfig", rack.stranger, sn="SN-9"))[1] == {"scripts": []}
    assert (await rack.site.get(f"{rack.site.base}/boot/s/{rack.stranger}/documents/ks.cfg"))[0] == 404
    # Its report is of a machine that nobody knows, whatever serial number it claims.
    assert {each.machine_id for each in rack.site.reports()[len(before[2]) :]} == {""}
    assert rack.state()[:2] == before[:2]


async def test_an_installation_that_is_over_is_not_spoken_of_again(rack: Rack) -> None:
    assert (await rack.site.say("operationFailed", rack.token, sn="SN-1", message="no disk"))[0] == 200
    before = rack.state()
    for word in ("getNextOperation", "progress", "operationComplete"):
        assert (await rack.site.say(word, rack.token, sn="SN-1", **BODY))[0] == 409, word
    # Said again because its answer was lost, it is the same word.
    assert (await rack.site.say("operationFailed", rack.token, sn="SN-1", **BODY))[1]["stage"] == "failed"
    assert (await rack.site.get(f"{rack.site.base}/boot/s/{rack.token}/documents/ks.cfg"))[0] == 409
    assert rack.state() == before


async def test_a_document_is_its_boots_alone(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        second = distribution_intent("i2")
        second.documents[0].content = b"of another\n"
        for each in (first := distribution_intent(), second):
            each.boot.kernel.CopyFrom(pb.BootFile(path="kernels/longshore-installer"))
        await site.approve(target(first), target(second, machine="m2", mac=OTHER_MAC))
        tokens = [await site.token(mac) for mac in (MAC, OTHER_MAC)]
        found = [await site.get(f"{site.base}/boot/s/{each}/documents/ks.cfg") for each in tokens]
        assert found == [(200, b"text\n"), (200, b"of another\n")]
