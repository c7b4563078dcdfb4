"""How failures look in the OpenAPI document: the problem bodies of `web/errors.py` in place of FastAPI's own 422.

Invariant: the document promises no status and no body that the handlers do not send.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """A failure (RFC 9457). Facts of the failure may stand beside these members."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str = Field(description="stable; what programs compare")
    detail: str = Field(description="what happened, to what")
    action: str = Field(description="what to do next")
    instance: str = Field(description="the path that was asked for")


# With `default` FastAPI leaves out its own 422: our handlers answer 400, with a problem like any other.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A failure",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


def describe_problems(api: FastAPI) -> None:
    """Put `Problem` among the document's schemas, for what `PROBLEMS` refers to."""
    made = api.openapi

    def with_problem() -> dict[str, Any]:
        document = made()
        document["components"]["schemas"].setdefault(Problem.__name__, Problem.model_json_schema())
        return document

    api.openapi = with_problem  # type: ignore[method-assign]
