"""The client of the centre's content routes, where its HTTP library fails in its own way."""

from __future__ import annotations

import aiohttp
import pytest

from common.clock import SystemClock
from regional.centre import BodyCut, Centre

from .conftest import FakeCentre, sample

SMALL = sample(5000)


async def _connection_closed(_reader: aiohttp.StreamReader, _size: int = -1) -> bytes:
    # What aiohttp 3.14 does where a connection closes between two reads.
    raise RuntimeError("Connection closed.")


async def test_a_connection_that_closes_between_two_reads_is_a_cut_answer(
    centre: FakeCentre, monkeypatch: pytest.MonkeyPatch
) -> None:
    centre.publish(SMALL, "acme")
    token = centre.signer.token(SMALL.key())
    async with aiohttp.ClientSession() as session:
        client = Centre(session, centre.url, SystemClock())
        monkeypatch.setattr(aiohttp.StreamReader, "read", _connection_closed)
        with pytest.raises(BodyCut):
            await client.metainfo(SMALL.digest, token)
        async with client.content(SMALL.digest, token) as body:
            with pytest.raises(BodyCut):
                async for _chunk in body.chunks:
                    pass
