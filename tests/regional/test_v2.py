"""The regional read as a registry: who gets what, what crosses the WAN, and what the centre's absence changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from common.clock import ManualClock
from common.digest import Digest
from common.limits import LinkRates
from regional.model import Effort
from regional.serving import listening
from tests.pace import BUSY_SECONDS

from .conftest import PIECE, FakeCentre, Rigs, sample, until
from .registry import IMAGE, INDEX, REPOSITORY, Hub, edge_registry

LAYER = sample(9 * PIECE + 17, seed=50)
OTHER = sample(5 * PIECE, seed=51)
MANIFEST = f"/v2/{REPOSITORY}/manifests/1"
BLOB = f"/v2/{REPOSITORY}/blobs/{LAYER.digest}"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def hub(centre: FakeCentre, clock: ManualClock) -> AsyncIterator[Hub]:
    subject = Hub(centre, clock)
    subject.push(REPOSITORY, "1", LAYER)
    app = web.Application()
    app.add_routes(subject.routes())
    async with listening(app, "127.0.0.1", 0) as port:
        centre.url = f"http://127.0.0.1:{port}"
        yield subject


async def test_many_who_pull_at_once_cost_one_crossing_and_read_while_it_arrives(
    rigs: Rigs, hub: Hub, centre: FakeCentre, tmp_path: Path
) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        token = hub.keys.token(REPOSITORY)
        centre.pause_at = 4 * PIECE
        part = client.get(BLOB, token, Range=f"bytes=0-{PIECE - 1}")
        status, _, first = await asyncio.wait_for(part, 10)
        assert (status, first) == (206, LAYER.data[:PIECE])
        assert not rig.edge.holds(LAYER.digest)
        waiting = [asyncio.ensure_future(client.get(BLOB, token)) for _ in range(5)]
        await asyncio.sleep(0)
        centre.resume.set()
        for answer in await asyncio.gather(*waiting):
            assert answer[2] == LAYER.data
        assert centre.sent[LAYER.digest] == len(LAYER.data)


async def test_after_the_manifest_the_contents_are_known_before_they_are_asked_for(
    rigs: Rigs, hub: Hub, tmp_path: Path
) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        token = hub.keys.token(REPOSITORY)
        assert (await client.get(MANIFEST, token))[0] == 200
        await until(lambda: hub.rights_asked == 1)
        assert (await client.get(BLOB, token, "HEAD"))[1]["Content-Length"] == str(len(LAYER.data))
        assert (await client.get(BLOB, token))[2] == LAYER.data
        assert hub.rights_asked == 1


async def test_a_digest_is_opened_only_in_the_repository_that_has_it_and_held_or_not_looks_the_same(
    rigs: Rigs, hub: Hub, tmp_path: Path
) -> None:
    hub.push("birch/web", "1", OTHER)
    # A manifest may name what is somebody else's.
    hub.manifests["birch/web", "2"] = hub.manifests[REPOSITORY, "1"]
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        assert (await client.get(BLOB, hub.keys.token(REPOSITORY)))[0] == 200
        theirs = hub.keys.token("birch/web")
        assert (await client.get("/v2/birch/web/manifests/2", theirs))[0] == 200
        asked = hub.rights_asked
        answers = []
        for digest in (LAYER.digest, Digest.of(b"not held")):
            status, headers, body = await client.get(f"/v2/birch/web/blobs/{digest}", theirs)
            answers.append((status, body, sorted(headers)))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
        assert hub.rights_asked > asked
        status, headers, _ = await client.get(BLOB, theirs)
        assert status == 401
        assert 'error="insufficient_scope"' in headers["WWW-Authenticate"]


@pytest.mark.parametrize("bad", ["", "x", "push", "other audience", "expired"])
async def test_what_is_no_good_token_opens_nothing(
    rigs: Rigs, hub: Hub, tmp_path: Path, clock: ManualClock, bad: str
) -> None:
    tokens = {
        "x": "x",
        "push": hub.keys.token(REPOSITORY, actions=("push",)),
        "other audience": hub.keys.token(REPOSITORY, audience="longshore"),
        "expired": hub.keys.token(REPOSITORY),
    }
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        assert (await client.get(BLOB, hub.keys.token(REPOSITORY)))[0] == 200
        clock.tick(1000 if bad == "expired" else 0)
        for path in (BLOB, MANIFEST, "/v2/" if bad != "push" else MANIFEST):
            status, headers, body = await client.get(path, tokens.get(bad, ""))
            assert (status, json.loads(body)["errors"][0]["code"]) == (401, "UNAUTHORIZED")
            assert 'realm="http://centre.test/v2/token"' in headers["WWW-Authenticate"]


async def test_a_rotated_key_is_learned_when_its_first_token_comes(
    rigs: Rigs, hub: Hub, tmp_path: Path, clock: ManualClock
) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        await until(lambda: (tmp_path / "v2" / "trust.json").exists())
        hub.keys.rotate()
        clock.tick(11)
        assert (await client.get(MANIFEST, hub.keys.token(REPOSITORY)))[0] == 200


async def test_a_tag_is_asked_each_time_and_moves_at_once(rigs: Rigs, hub: Hub, tmp_path: Path) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        token = hub.keys.token(REPOSITORY)
        first = await client.get(MANIFEST, token, Accept=f"{IMAGE}, {INDEX}")
        moved = hub.push(REPOSITORY, "1", OTHER)
        status, headers, _ = await client.get(MANIFEST, token, "HEAD", Accept=f"{IMAGE}, {INDEX}")
        assert (status, headers["Docker-Content-Digest"]) == (200, str(moved))
        etag = headers["ETag"]
        assert (await client.get(MANIFEST, token, If_None_Match=etag))[0] == 304
        asked = len(hub.asked)
        by_digest = f"/v2/{REPOSITORY}/manifests/{Digest.of(first[2])}"
        for _ in range(3):
            assert (await client.get(by_digest, token))[2] == first[2]
        assert len(hub.asked) - asked <= 1
        del hub.manifests[REPOSITORY, "1"]
        assert (await client.get(MANIFEST, token))[0] == 404


async def test_while_the_centre_is_away_the_last_answer_counts_for_a_bounded_time(
    rigs: Rigs, hub: Hub, tmp_path: Path, clock: ManualClock
) -> None:
    async with rigs() as rig:
        async with edge_registry(rig, hub, tmp_path / "v2") as client:
            token = hub.keys.token(REPOSITORY)
            assert (await client.get(MANIFEST, token))[0] == 200
            assert (await client.get(BLOB, token))[0] == 200
            hub.away = True
            clock.tick(600)
            for _ in range(2):
                status, headers, _ = await client.get(MANIFEST, token)
                assert (status, headers["Age"], headers["Warning"][:3]) == (200, "600", "110")
            status, headers, body = await client.get(BLOB, token)
            assert (status, body, headers["Age"]) == (200, LAYER.data, "600")
            assert (await client.get(f"/v2/{REPOSITORY}/manifests/2", token))[0] == 503
            assert (await client.get(f"/v2/{REPOSITORY}/tags/list", token))[0] == 503
        clock.tick(71 * 3600)
        token = hub.keys.token(REPOSITORY)
        async with edge_registry(rig, hub, tmp_path / "v2") as client:
            assert (await client.get(MANIFEST, token))[0] == 200
            clock.tick(3600)
            token = hub.keys.token(REPOSITORY)
            assert (await client.get(MANIFEST, token))[0] == 503
            assert (await client.get(BLOB, token))[0] == 503


async def test_a_centre_that_hangs_is_waited_for_once_and_asked_again_later(
    rigs: Rigs, hub: Hub, tmp_path: Path, clock: ManualClock
) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        token = hub.keys.token(REPOSITORY)
        assert (await client.get(BLOB, token))[0] == 200
        clock.tick(301)
        hub.away, asked = True, hub.rights_asked
        answers = await asyncio.gather(*(client.get(BLOB, token) for _ in range(10)))
        assert {(status, headers["Age"]) for status, headers, _ in answers} == {(200, "301")}
        assert hub.rights_asked == asked + 1
        hub.away = False
        assert "Age" in (await client.get(BLOB, token))[1]
        clock.tick(4)
        assert "Age" not in (await client.get(BLOB, token))[1]


async def test_everybody_pulls_what_the_centre_called_public_until_it_takes_that_back(
    rigs: Rigs, hub: Hub, tmp_path: Path, clock: ManualClock
) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        assert (await client.get(BLOB, hub.keys.token(REPOSITORY)))[0] == 200
        assert (await client.get(BLOB))[0] == 401
        hub.public.add(REPOSITORY)
        assert (await client.get(MANIFEST))[0] == 200
        assert (await client.get(BLOB))[2] == LAYER.data
        hub.away = True
        assert (await client.get(BLOB))[2] == LAYER.data
        hub.away = False
        hub.public.clear()
        clock.tick(301)
        assert (await client.get(BLOB))[0] == 401
        assert (await client.get(MANIFEST))[0] == 401


async def test_what_finds_no_way_into_the_cache_is_passed_through(rigs: Rigs, hub: Hub, tmp_path: Path) -> None:
    async with rigs(limit_bytes=PIECE) as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        token = hub.keys.token(REPOSITORY)
        status, _, body = await client.get(BLOB, token)
        assert (status, json.loads(body)["errors"][0]["code"]) == (404, "BLOB_UNKNOWN")
        assert hub.asked[-1] == f"{REPOSITORY}/blobs/{LAYER.digest}"
        assert json.loads((await client.get(f"/v2/{REPOSITORY}/tags/list", token))[2])["tags"] == ["1"]


async def test_a_right_that_was_taken_is_gone_with_the_next_question(
    rigs: Rigs, hub: Hub, tmp_path: Path, clock: ManualClock
) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        token = hub.keys.token(REPOSITORY)
        assert (await client.get(BLOB, token))[0] == 200
        hub.revoked = True
        clock.tick(301)
        assert (await client.get(BLOB, token))[0] == 404
        hub.away = True
        assert (await client.get(BLOB, token))[0] == 503


async def test_logins_go_through_the_edge_where_it_is_told_so(rigs: Rigs, hub: Hub, tmp_path: Path) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2", own_logins=True) as client:
        await until(lambda: (tmp_path / "v2" / "trust.json").exists())
        _, headers, _ = await client.get("/v2/")
        assert headers["WWW-Authenticate"].startswith(f'Bearer realm="{client.base}/v2/token"')
        async with client.http.post(f"{client.base}/v2/token", data={"grant_type": "password"}) as answer:
            assert await answer.json() == {"token": "given", "body": "grant_type=password"}
        assert (await client.get("/v2/token?service=x"))[0] == 200
    async with rigs("other") as rig, edge_registry(rig, hub, tmp_path / "other") as client:
        assert (await client.get("/v2/token"))[0] == 404


async def test_nothing_is_written_and_nonsense_is_named(rigs: Rigs, hub: Hub, tmp_path: Path) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            status, headers, body = await client.get(MANIFEST, "", method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD")
            assert json.loads(body)["errors"][0]["code"] == "UNSUPPORTED"
        token = hub.keys.token(REPOSITORY)
        for path, expected in (
            ("/v2/acme/web/blobs/sha256:00", (400, "DIGEST_INVALID")),
            ("/v2/UPPER/web/blobs/" + str(LAYER.digest), (400, "NAME_INVALID")),
            ("/v2/acme/web/else/1", (404, "UNSUPPORTED")),
            (BLOB + "?range", (416, "SIZE_INVALID")),
        ):
            header = {"Range": f"bytes={len(LAYER.data)}-"} if path.endswith("?range") else {}
            status, _, body = await client.get(path, token, **header)
            assert (status, json.loads(body)["errors"][0]["code"]) == expected


async def test_what_engines_pull_keeps_the_limits_of_the_line_and_is_no_preheat(
    rigs: Rigs, hub: Hub, tmp_path: Path
) -> None:
    async with rigs() as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        token, links, size = hub.keys.token(REPOSITORY), rig.edge.links, len(LAYER.data)
        links.ordered(LAYER.key("t-acme"), Effort.LOWER)
        assert (await client.get(BLOB, token))[2] == LAYER.data
        assert not links.lower(LAYER.digest), "somebody waits"
        links.up.set_rates(LinkRates(tenants={"t-acme": size}))
        began = asyncio.get_running_loop().time()
        assert (await client.get(BLOB, token))[2] == LAYER.data
        assert 0.8 < asyncio.get_running_loop().time() - began < 2.5 + BUSY_SECONDS


async def test_what_is_passed_through_keeps_the_limits_of_both_lines(rigs: Rigs, hub: Hub, tmp_path: Path) -> None:
    async with rigs(limit_bytes=PIECE) as rig, edge_registry(rig, hub, tmp_path / "v2") as client:
        token = hub.keys.token(REPOSITORY)
        for line in (rig.edge.links.wan, rig.edge.links.up):
            # A tenth of a second's worth may always go at once.
            line.set_rates(LinkRates(whole=40))
            began = asyncio.get_running_loop().time()
            assert (await client.get(f"/v2/{REPOSITORY}/tags/list", token))[0] == 200
            assert asyncio.get_running_loop().time() - began > 0.5
            line.set_rates(LinkRates())
