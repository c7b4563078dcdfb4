"""A regional as a process: what was approved is installed while the centre is away, and told when it is back."""

from __future__ import annotations

import signal
from typing import Any

import aiohttp
import pytest

from proto.regional.v1 import machines_pb2 as pb

from ..conftest import FakeCentre, Signer, sample, until
from ..plane import Plane, running_plane
from ..test_process import Start, all_held, order, start
from .boots import token_in
from .rack import MAC, content, image_intent, target

__all__ = ["start"]
pytestmark = pytest.mark.processes
IMAGE = sample(300_000, seed=9)


async def test_an_approved_machine_is_installed_while_the_centre_is_away(
    start: Start, centre: FakeCentre, signer: Signer
) -> None:
    centre.publish(IMAGE, "acme")
    intent = image_intent()
    intent.operations[1].image_install.content.CopyFrom(content(IMAGE.digest, len(IMAGE.data)))
    async with running_plane(centre) as plane:
        plane.orders, plane.targets = [order(signer, IMAGE)], [target(intent, serial="SN-1")]
        options = ("--idc", "east", "--api-port", "0", "--server", plane.url)
        async with start(*options, "--join-token", plane.join_token) as it:
            await until(lambda: all_held(plane, IMAGE), 40)
            await it.stop(signal.SIGKILL)
    async with start(*options) as it, aiohttp.ClientSession() as http:
        await _installs(http, it.api)
        await it.stop(signal.SIGKILL)
    assert not _phases(plane)
    plane.forgets = 2
    async with running_plane(centre, plane), start("--idc", "east", "--api-port", "0", "--server", plane.url):
        done = [pb.INSTALL_PHASE_BOOTING, pb.INSTALL_PHASE_INSTALLING, pb.INSTALL_PHASE_COMPLETED]
        await until(lambda: _phases(plane) == done and plane.forgets == 0, 60)
    ids = [report.id for report in plane.machine_reports]
    assert len(ids) > len(set(ids)), "nothing was delivered again, so nothing was lost"


async def _installs(http: aiohttp.ClientSession, api: str) -> None:
    async with http.get(f"{api}/boot/{MAC.replace(':', '-')}/next.ipxe?serial=SN-1&uuid=&platform=pcbios") as answer:
        token = token_in(await answer.text())

    async def say(word: str, **body: str) -> dict[str, Any]:
        async with http.post(f"{api}/api/v1/device/{token}/{word}", json={"sn": "SN-1", **body}) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    while (step := await say("getNextOperation", attempt="1"))["operation"] != "reboot":
        digest = {"digest": step["digest"]} if "digest" in step else {}
        if "url" in step:
            async with http.get(step["url"]) as answer:
                assert await answer.read() == IMAGE.data
        await say("operationComplete", operation=step["id"], **digest)


def _phases(plane: Plane) -> list[int]:
    """Each report once, in the order in which it happened."""
    said = {report.id: report for report in plane.machine_reports if report.HasField("install")}
    return [said[each].install.phase for each in sorted(said)]
