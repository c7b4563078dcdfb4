"""From the first script to the disk, over real HTTP: approved machines install once, all others boot their disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.digest import Digest
from proto.regional.v1 import machines_pb2 as pb

from ..conftest import Rigs, sample
from .boots import Site, installs, running_site, token_in
from .rack import MAC, content, distribution_intent, image_intent, image_operations, target

IMAGE = sample(700_000, seed=8)
OTHER_MAC = "52:54:00:00:00:02"


def script_only() -> pb.InstallIntent:
    """Needs no content."""
    script = pb.Script(name="raid", content=b"longshore-" + b"0" * 32 + b"-url-late\n")
    operations = [pb.Operation(id="raid", hardware_config=script), *image_operations()[2:]]
    return pb.InstallIntent(id="i1", operations=operations, placeholder_nonce="0" * 32)


def direct() -> pb.InstallIntent:
    """A distribution's installer from the static root."""
    intent = distribution_intent()
    intent.boot.kernel.CopyFrom(pb.BootFile(path="kernels/longshore-installer"))
    nonce = "ab" * 16
    intent.placeholder_nonce = nonce
    intent.boot.arguments = f"auto=true url=longshore-{nonce}-documents-late/ks.cfg"
    intent.documents[0].content = f"%post\ncurl longshore-{nonce}-device-late/operationComplete\n".encode()
    return intent


async def test_strangers_and_machines_without_a_task_boot_their_disk(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target())
        status, stub = await site.get(f"{site.base}/boot/52-54-00-12-34-56.ipxe")
        assert status == 200
        assert f"chain --autofree --replace {site.base}/boot/52-54-00-12-34-56/next.ipxe?serial=" in stub.decode()
        for mac in (MAC, OTHER_MAC):
            assert "sanboot" in await site.script(mac)
            assert not installs(await site.script(mac))
        assert (await site.get(f"{site.base}/boot/nonsense.ipxe"))[0] == 400


async def test_strangers_may_boot_the_installer_environment_and_report_what_they_are(tmp_path: Path) -> None:
    async with running_site(tmp_path, boot_strangers="discover") as site:
        script = await site.script(OTHER_MAC, "SN-2")
        token = token_in(script)
        assert f"longshore.url={site.base} longshore.token={token} longshore.mac={OTHER_MAC}" in script
        assert (await site.get(f"{site.base}/boot/s/{token}/kernel"))[1] == b"kernels/longshore-installer" * 100
        hardware = {"cpu_cores": 4, "memory_bytes": 1 << 30, "disks": [{"name": "sda"}], "unknown": 1}
        assert (await site.say("report", token, sn="SN-2", mac=OTHER_MAC, hardware=hardware))[0] == 200
        status, queue = await site.say("isInInstallQueue", token, sn="SN-2")
        assert (status, queue["result"]) == (200, False)
        inventories = [each.inventory for each in site.reports() if each.HasField("inventory")]
        assert [(each.serial, each.cpu_cores, each.disks[0].name) for each in inventories] == [("SN-2", 4, "sda")]
        assert (await site.say("getNextOperation", token, attempt="1"))[0] == 409


async def test_whom_nobody_accepted_yet_boots_as_a_stranger(tmp_path: Path) -> None:
    said = target(serial="SN-1")
    said.without_intent = pb.WITHOUT_INTENT_AS_STRANGER
    async with running_site(tmp_path / "local") as site:
        await site.approve(said)
        assert not installs(await site.script(serial="SN-1"))
    async with running_site(tmp_path / "discover", boot_strangers="discover") as site:
        await site.approve(said)
        assert (await site.say("isInInstallQueue", await site.token(serial="SN-1"), sn="SN-1"))[1]["result"] is False
        said.without_intent = pb.WITHOUT_INTENT_UNSPECIFIED
        await site.approve(said)
        assert not installs(await site.script(serial="SN-1"))


async def test_an_image_goes_from_the_edge_cache_to_the_disk_once(tmp_path: Path, rigs: Rigs, centre: object) -> None:
    async with rigs() as rig, running_site(tmp_path, rig.cache) as site:
        rig.centre.base_url = centre.url  # type: ignore[attr-defined]
        centre.publish(IMAGE, "acme")  # type: ignore[attr-defined]
        intent = image_intent()
        intent.operations[1].image_install.content.CopyFrom(content(IMAGE.digest, len(IMAGE.data)))
        await site.approve(target(intent, serial="SN-1"))
        assert "on their way" in await site.script(serial="SN-1")
        await rig.hold(IMAGE)
        token = await site.token(serial="SN-1")
        await _installs_an_image(site, token)
        assert "completed" in await site.script(serial="SN-1")
        assert site.phases() == ["booting", "installing", "completed"]


async def _installs_an_image(site: Site, token: str) -> None:
    assert (await site.say("isInInstallQueue", token, sn="sn-1", mac=MAC))[1]["result"] is True
    status, wipe = await site.say("getNextOperation", token, sn="SN-1", attempt="1")
    assert (status, wipe["operation"], wipe["whole"]) == (200, "disk_wipe", True)
    # Its answer was lost: the same question gets the same answer.
    assert (await site.say("getNextOperation", token, sn="SN-1", attempt="1"))[1] == wipe
    assert (await site.say("operationComplete", token, operation=wipe["id"]))[0] == 200
    assert (await site.say("operationComplete", token, operation=wipe["id"]))[0] == 200
    _, write = await site.say("getNextOperation", token, sn="SN-1", attempt="2")
    assert (write["operation"], write["method"], write["digest"]) == ("os_install", "image", str(IMAGE.digest))
    assert await site.get(write["url"], Range="bytes=1000-1999") == (206, IMAGE.data[1000:2000])
    assert await site.get(write["url"]) == (200, IMAGE.data)
    assert await site.get(write["url"] + "?bytes=1000-1999") == (200, IMAGE.data[1000:2000])
    assert (await site.get(write["url"] + "?bytes=9000000-"))[0] == 416
    assert (await site.say("progress", token, operation="write", percent=50))[0] == 200
    assert (await site.say("operationComplete", token, operation="write"))[0] == 400
    assert (await site.say("operationComplete", token, operation="write", digest=write["digest"]))[0] == 200
    _, done = await site.say("getNextOperation", token, sn="SN-1", attempt="3")
    assert (await site.say("operationComplete", token, operation=done["id"]))[1]["stage"] == "completed"
    assert (await site.say("getNextOperation", token, sn="SN-1", attempt="4"))[1]["operation"] == "reboot"


async def test_a_truncated_image_fails_and_is_not_tried_again(tmp_path: Path, rigs: Rigs, centre: object) -> None:
    async with rigs() as rig, running_site(tmp_path, rig.cache) as site:
        centre.publish(IMAGE, "acme")  # type: ignore[attr-defined]
        await rig.hold(IMAGE)
        intent = image_intent()
        del intent.operations[0]
        intent.operations[0].image_install.content.CopyFrom(content(IMAGE.digest, len(IMAGE.data)))
        await site.approve(target(intent))
        token = await site.token()
        await site.say("getNextOperation", token, attempt="1")
        damaged = str(Digest.of(IMAGE.data[:-1]))
        status, said = await site.say("operationComplete", token, operation="write", digest=damaged)
        assert (status, said["stage"]) == (200, "failed")
        assert (await site.say("getNextOperation", token, attempt="2"))[0] == 409
        script = await site.script()
        assert not installs(script)
        assert "truncated" in script
        assert site.phases()[-1] == "failed"


async def test_a_distributions_installer_is_handed_over_to_once(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(direct()))
        script = await site.script()
        token = token_in(script)
        assert f"url={site.base}/boot/s/{token}/documents/ks.cfg" in script
        # A loader may look again before it has the kernel, and firmware asks for sizes first.
        assert await site.token() == token
        async with site.http.head(f"{site.base}/boot/s/{token}/kernel") as answer:
            assert answer.status == 200
        assert installs(await site.script())
        assert (await site.get(f"{site.base}/boot/s/{token}/kernel"))[0] == 200
        assert (await site.get(f"{site.base}/boot/s/{token}/initrd0"))[1].startswith(b"initramfs/i.gz")
        status, document = await site.get(f"{site.base}/boot/s/{token}/documents/ks.cfg")
        assert (status, document) == (
            200,
            f"%post\ncurl {site.base}/api/v1/device/{token}/operationComplete\n".encode(),
        )
        assert (await site.get(f"{site.base}/boot/s/{token}/documents/vendor-data"))[0] == 404
        assert not installs(await site.script())
        url = f"{site.base}/api/v1/device/{token}/operationComplete"
        async with site.http.post(url, json={"operation": "done"}) as answer:
            assert answer.status == 200
        assert not installs(await site.script())
        assert site.phases() == ["booting", "installing", "completed"]


async def test_power_lost_in_the_middle_ends_at_the_disk_and_failed(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(script_only()))
        token = await site.token()
        _, raid = await site.say("getNextOperation", token, attempt="1")
        assert raid["script"] == f"{site.base}\n"
        site.clock.tick(60)
        assert not installs(await site.script())
        site.clock.tick(300)
        site.machines.ledger.sweep(site.clock.now().timestamp())
        assert site.phases() == ["booting", "installing", "failed"]
        assert "booted again in the middle" in await site.script()
        status, said = await site.say("getNextOperation", token, attempt="2")
        assert (status, said["code"]) == (409, "install_over")


async def test_another_approval_installs_again(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        for number in (1, 2):
            intent = script_only()
            intent.id = f"i{number}"
            await site.approve(target(intent))
            token = await site.token()
            await site.say("getNextOperation", token, attempt="1")
            assert (await site.say("operationFailed", token, operation="raid", message="no disk"))[0] == 200
            assert "no disk" in await site.script()
        assert site.phases() == ["booting", "installing", "failed"] * 2


async def test_withdrawn_means_stop_and_the_disk(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(script_only()))
        token = await site.token()
        await site.approve(target())
        assert (await site.say("getNextOperation", token, attempt="1"))[0] == 409
        assert not installs(await site.script())
        assert site.phases() == ["booting", "stopped"]


async def test_the_wrong_machine_never_installs(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(script_only(), serial="SN-1"), target(machine="m2", mac=OTHER_MAC, serial="SN-2"))
        assert "SN-2" in await site.script(serial="SN-2")
        assert not installs(await site.script(serial=""))
        token = await site.token(serial="SN-1")
        for word in ("getNextOperation", "isInInstallQueue", "report", "progress", "operationComplete"):
            assert (await site.say(word, "", sn="SN-1", attempt="1"))[0] == 401
            assert (await site.say(word, "f" * 43, sn="SN-1", attempt="1"))[0] == 401
            assert (await site.say(word, token, sn="SN-2", attempt="1"))[0] == 403
            assert (await site.say(word, token, sn="SN-1", mac=OTHER_MAC, attempt="1"))[0] == 403
        assert (await site.say("getNextOperation", token, attempt="1"))[0] == 403
        site.clock.tick(60)
        later = await site.token(serial="SN-1")
        assert (await site.say("getNextOperation", token, sn="SN-1", attempt="1"))[0] == 403
        assert (await site.get(f"{site.base}/boot/s/{token}/kernel"))[0] == 403
        assert (await site.say("getNextOperation", later, sn="SN-1", attempt="1"))[0] == 200


async def test_a_script_asked_for_from_elsewhere_than_the_lease_is_refused(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(script_only()))
        site.machines.timeline._leased[MAC] = "192.0.2.77"
        assert "192.0.2.77" in await site.script()
        site.machines.timeline._leased[MAC] = "127.0.0.1"
        assert installs(await site.script())


async def test_more_machines_than_may_install_at_once_are_told_their_place(tmp_path: Path) -> None:
    async with running_site(tmp_path, installs_at_once=1) as site:
        macs = [f"52:54:00:00:00:{number:02x}" for number in range(3)]
        machines = []
        for number, mac in enumerate(macs):
            intent = script_only()
            intent.id = f"i{number}"
            machines.append(target(intent, machine=f"m{number}", mac=mac))
        await site.approve(*machines)
        token = await site.token(macs[0])
        assert "place 1 in the queue" in await site.script(macs[1])
        assert "place 2 in the queue" in await site.script(macs[2])
        await site.say("operationFailed", token, message="enough")
        assert "place 1 in the queue" in await site.script(macs[2])
        assert installs(await site.script(macs[1]))


async def test_what_was_approved_meanwhile_begins_where_the_machine_looks_around(tmp_path: Path) -> None:
    async with running_site(tmp_path, boot_strangers="discover") as site:
        token = await site.token(serial="SN-1")
        await site.approve(target(script_only(), serial="SN-1"))
        assert (await site.say("isInInstallQueue", token, sn="SN-9"))[0] == 403
        assert (await site.say("isInInstallQueue", token, sn="SN-1"))[1]["result"] is True
        assert (await site.say("getNextOperation", token, sn="SN-1", attempt="1"))[1]["operation"] == "hardware_config"
        await site.approve(target(direct(), machine="m2", mac=OTHER_MAC))
        other = (await site.say("isInInstallQueue", await _looking(site), sn=""))[1]
        assert other["result"] is False


async def _looking(site: Site) -> str:
    return await site.token("52:54:00:00:00:09")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * (600 << 10), 413),
        (b"{", 400),
        (b"[1]", 400),
        (b"[" * 100_000, 400),
        (b'{"attempt": ["x"]}', 400),
        (b'{"attempt": ""}', 400),
        (b'{"attempt": "1", "sn": {}}', 400),
        (b'{"attempt": "1", "mac": "zz"}', 403),
        (b'\xff\xfe{"attempt"', 400),
    ],
)
async def test_bad_words_change_nothing(tmp_path: Path, body: bytes, status: int) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(script_only()))
        token = await site.token()
        before = site.machines.ledger.install("i1")
        url = f"{site.base}/api/v1/device/{token}/getNextOperation"
        async with site.http.post(url, data=body) as answer:
            assert answer.status == status, await answer.text()
        assert site.machines.ledger.install("i1") == before
        async with site.http.post(f"{site.base}/api/v1/device/{token}/reboot", json={}) as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    "percent", ["-Infinity", "Infinity", "NaN", "1e400", "-2", "101", "true", "null", str(-(2**70))]
)
async def test_a_percentage_is_one(tmp_path: Path, percent: str) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(script_only()))
        token = await site.token()
        await site.say("getNextOperation", token, attempt="1")
        before = site.reports()
        body = f'{{"operation": "raid", "percent": {percent}}}'.encode()
        async with site.http.post(f"{site.base}/api/v1/device/{token}/progress", data=body) as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, "device_words_invalid")
        assert site.reports() == before


async def test_what_a_machine_says_for_people_is_bounded(tmp_path: Path) -> None:
    async with running_site(tmp_path) as site:
        await site.approve(target(script_only()))
        token = await site.token()
        await site.say("getNextOperation", token, attempt="1")
        for _ in range(300):
            assert (await site.say("progress", token, operation="raid", text="x" * 100_000))[0] == 200
        said = sum(len(each.operation.text) for each in site.reports())
        assert 0 < said <= 4 << 20
