"""The shape of every success: `{"data": ...}`, and for lists `pagination` beside it.

One shape, so that the console's generated types and every client need one unwrapping.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from pydantic import BaseModel

from control_plane.web.paging import Page

T = TypeVar("T")
M = TypeVar("M")


class Envelope(BaseModel, Generic[T]):
    """One thing."""

    data: T


class Pagination(BaseModel):
    page: int
    page_size: int
    total_pages: int
    total_count: int


class Listing(BaseModel, Generic[T]):
    """One page of things."""

    data: list[T]
    pagination: Pagination

    @classmethod
    def of(cls, page: Page[M], show: Callable[[M], T]) -> Listing[T]:
        """`show` turns a model of the domain into its wire form."""
        return cls(
            data=[show(item) for item in page.items],
            pagination=Pagination(
                page=page.request.page,
                page_size=page.request.page_size,
                total_pages=page.total_pages,
                total_count=page.total_count,
            ),
        )
