"""Lists come in pages: `?page=1&page_size=20`; pure except for the FastAPI dependency at the end.

Invariant: a page is bounded, however much a client asks for; pages are counted from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query

T = TypeVar("T")

MAX_PAGE_SIZE = 200
# Keeps `offset` far inside a 64-bit integer, where the databases stop.
MAX_PAGE = 1_000_000


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is wanted. In a route, take `PageQuery`; a store uses `offset` and `limit`."""

    page: int = 1
    page_size: int = 20

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.page_size

    @property
    def limit(self) -> int:
        return self.page_size


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """What one page holds, and how much there is in all. A page beyond the last is empty, not an error."""

    items: Sequence[T]
    total_count: int
    request: PageRequest

    @property
    def total_pages(self) -> int:
        return -(-self.total_count // self.request.page_size)


def page_of(items: Sequence[T], request: PageRequest) -> Page[T]:
    """One page of a list that is in memory already."""
    return Page(items[request.offset : request.offset + request.limit], len(items), request)


def page_request(
    page: Annotated[int, Query(ge=1, le=MAX_PAGE, description="which page, counted from 1")] = 1,
    page_size: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description="how many a page")] = 20,
) -> PageRequest:
    return PageRequest(page, page_size)


PageQuery = Annotated[PageRequest, Depends(page_request)]
