"""Clients are counted by address, lists are cut into bounded pages."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from control_plane.web.addresses import limited_address
from control_plane.web.envelope import Envelope, Listing
from control_plane.web.errors import install_error_handlers
from control_plane.web.paging import PageQuery, PageRequest, page_of


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", ""),
        ("", ""),
    ],
)
def test_limits_count_ipv6_by_network(host: str, counted: str) -> None:
    assert limited_address(host) == counted


class Number(BaseModel):
    value: int


def site() -> AsyncClient:
    app = FastAPI()

    @app.get("/numbers")
    async def numbers(page: PageQuery) -> Listing[Number]:
        return Listing.of(page_of(range(1, 46), page), lambda value: Number(value=value))

    @app.get("/number")
    async def number() -> Envelope[Number]:
        return Envelope(data=Number(value=1))

    install_error_handlers(app)
    return AsyncClient(transport=ASGITransport(app), base_url="http://longshore")


async def test_a_list_says_where_it_stands() -> None:
    body = (await site().get("/numbers?page=3")).json()
    assert [row["value"] for row in body["data"]] == [41, 42, 43, 44, 45]
    assert body["pagination"] == {"page": 3, "page_size": 20, "total_pages": 3, "total_count": 45}


async def test_one_thing_stands_in_the_same_envelope() -> None:
    assert (await site().get("/number")).json() == {"data": {"value": 1}}


async def test_a_page_beyond_the_last_is_empty() -> None:
    body = (await site().get("/numbers?page=9")).json()
    assert body["data"] == []
    assert body["pagination"]["total_count"] == 45


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page_size=0", "page_size=1000000", "page=x", "page=9999999999"]
)
async def test_a_page_is_bounded(query: str) -> None:
    assert (await site().get(f"/numbers?{query}")).status_code == 400


@given(count=st.integers(0, 500), size=st.integers(1, 60))
def test_the_pages_together_are_the_list(count: int, size: int) -> None:
    whole = list(range(count))
    pages = page_of(whole, PageRequest(1, size)).total_pages
    assert [item for page in range(1, pages + 1) for item in page_of(whole, PageRequest(page, size)).items] == whole
