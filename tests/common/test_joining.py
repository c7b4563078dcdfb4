"""Join tokens, waiting times and addresses of the control plane: the parts of joining that need no control plane."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Conflict, Denied, Failure, RateLimited, Stale, Unauthenticated, Unavailable
from common.join_token import JoinToken, JoinTokenMalformed
from common.patience import IDENTITY_IN_USE, NotWelcomed, OutboxOverflow, Patience, RoundEnded, is_refusal
from common.plane import PlaneLocator, discover

ANSWER = {"name": "longshore", "enrolment": "plane:1", "attach": "plane:2", "ca_pem": "PEM"}


@given(st.binary(min_size=32, max_size=32), st.uuids(), st.binary(min_size=5, max_size=40))
def test_a_join_token_reads_as_it_was_written(ca_hash: bytes, token_id: object, secret: bytes) -> None:
    token = JoinToken(ca_hash.hex(), str(token_id), secret)

    assert JoinToken.parse(f" {token}\n") == token


@given(st.text(max_size=200))
def test_other_text_is_no_join_token_and_is_never_repeated(text: str) -> None:
    with pytest.raises(JoinTokenMalformed) as refusal:
        JoinToken.parse(text)

    assert "LSJOIN-1-" in refusal.value.action
    assert refusal.value.facts == {}


def test_the_secret_does_not_reach_logs() -> None:
    token = JoinToken("0" * 64, "01a1fbf6-6483-70e1-bffb-96ad5b0a1057", b"a secret of 20 bytes")

    assert repr(token) == "JoinToken(01a1fbf6-6483-70e1-bffb-96ad5b0a1057)"


def waits(failure: Failure, rounds: int, lasted_seconds: float = 0.0) -> list[float]:
    patience = Patience(lambda: 0.999999)
    return [round(patience.after(failure, lasted_seconds), 2) for _ in range(rounds)]


def test_waits_double_to_four_seconds_for_ten_tries_and_then_to_a_minute() -> None:
    assert waits(Stale("a gap"), 15) == [0.5, 1, 2, *[4] * 7, 8, 16, 32, 60, 60]


def test_a_plane_that_is_busy_is_given_more_time_and_tried_more_seldom() -> None:
    patience = Patience(lambda: 0.999999)
    waited, delays = [], []
    for _ in range(4):
        waited.append(patience.welcome_seconds)
        delays.append(round(patience.after(NotWelcomed("busy"), patience.welcome_seconds)))

    assert waited == [20, 40, 80, 80]
    assert delays == [8, 16, 32, 60]


def test_who_was_welcomed_for_a_minute_waits_as_briefly_as_at_first() -> None:
    patience = Patience(lambda: 0.999999)
    patience.after(NotWelcomed("busy"), 20)
    patience.after(RoundEnded("over"), 60)

    assert patience.welcome_seconds == 20


def test_only_a_round_that_lasted_starts_the_count_anew() -> None:
    assert waits(RoundEnded("over"), 3, lasted_seconds=59) == [0.5, 1, 2]
    assert waits(RoundEnded("over"), 3, lasted_seconds=60) == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("refusal", [Unauthenticated("who?"), Denied("revoked")])
def test_refusals_that_an_operator_has_to_mend_wait_up_to_eight_minutes(refusal: Failure) -> None:
    assert waits(refusal, 7) == [15, 30, 60, 120, 240, 480, 480]


def test_other_conflicts_are_no_refusals() -> None:
    assert not is_refusal(Conflict("something else"))
    copied = Conflict("copied")
    vars(copied)["code"] = IDENTITY_IN_USE
    assert is_refusal(copied)


def test_the_servers_wish_is_heard_and_spread() -> None:
    assert waits(RateLimited("slow down", retry_after_seconds=30), 2) == [30, 30]
    assert waits(Unavailable("gone", retry_after_seconds=3600), 1) == [60]
    spread = [Patience(random.Random(seed).random).after(Unavailable("x", retry_after_seconds=20), 0) for seed in "abc"]
    assert len(set(spread)) == 3
    assert waits(OutboxOverflow("ours", retry_after_seconds=50), 1) == [0.5]


class Centre:
    """An HTTP server that answers what it is told."""

    def __init__(self) -> None:
        self.answer: web.Response | None = None
        self.document: dict[str, str] = dict(ANSWER)

    async def well_known(self, request: web.Request) -> web.Response:
        return self.answer or web.json_response(self.document)


@pytest.fixture
async def centre() -> AsyncIterator[Centre]:
    centre = Centre()
    app = web.Application()
    app.router.add_get("/.well-known/longshore", centre.well_known)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    centre.url = f"http://127.0.0.1:{runner.addresses[0][1]}"  # type: ignore[attr-defined]
    centre.stop = runner.cleanup  # type: ignore[attr-defined]
    yield centre
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_addresses_are_remembered_for_the_time_when_the_centre_is_away(
    centre: Centre, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    locator = PlaneLocator(centre.url, tmp_path, http)  # type: ignore[attr-defined]
    assert await locator.attach_address() == "plane:2"
    centre.document["attach"] = "elsewhere:3"
    assert await locator.attach_address() == "elsewhere:3"
    centre.answer = web.Response(status=502)

    assert await locator.attach_address() == "elsewhere:3"
    await centre.stop()  # type: ignore[attr-defined]
    assert await PlaneLocator(centre.url, tmp_path, http).attach_address() == "elsewhere:3"  # type: ignore[attr-defined]


async def test_addresses_that_were_never_learned_are_a_failure(
    centre: Centre, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    await centre.stop()  # type: ignore[attr-defined]
    (tmp_path / "plane.json").write_text("scratched")

    with pytest.raises(Unavailable, match="does not answer"):
        await PlaneLocator(centre.url, tmp_path, http).attach_address()  # type: ignore[attr-defined]


@pytest.mark.parametrize("body", ["<html>", "[]", json.dumps({"attach": "x"}), "null"])
async def test_what_is_no_control_plane_is_not_taken_for_one(
    centre: Centre, http: aiohttp.ClientSession, body: str
) -> None:
    centre.answer = web.Response(text=body)

    with pytest.raises(Unavailable, match="no Longshore control plane"):
        await discover(f"{centre.url}/", http)  # type: ignore[attr-defined]


async def test_an_url_that_is_none_is_named(http: aiohttp.ClientSession) -> None:
    with pytest.raises(Unavailable, match="--server"):
        await discover("not a url", http)
