"""The wire models of the fleet's routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from control_plane.fleet.hosts import Seen
from control_plane.fleet.join_tokens import DEFAULT_LIFE, MadeJoinToken
from control_plane.fleet.model import Host, Idc, Regional, State, StoredJoinToken


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WellKnown(BaseModel):
    """Where a new machine turns to. Public: it holds nothing secret."""

    name: Literal["longshore"] = "longshore"
    version: str
    enrolment: str = Field(description="host:port of the gRPC listener for enrolment, server TLS")
    attach: str = Field(description="host:port of the gRPC listener for agents and regionals, mutual TLS")
    ca_pem: str = Field(description="the certificate authority; callers check its hash against their join token")


class IdcCreate(_Body):
    name: str = Field(examples=["east"])
    display_name: str = ""


class IdcView(BaseModel):
    id: str
    name: str
    display_name: str
    created_at: datetime

    @classmethod
    def of(cls, idc: Idc) -> IdcView:
        return cls(id=idc.id, name=idc.name, display_name=idc.display_name, created_at=idc.created_at)


class JoinTokenCreate(_Body):
    kind: Literal["host", "regional"]
    idc: str
    name: str | None = Field(default=None, description="bind the token to this name; also lets its machine join again")
    ttl_seconds: int = Field(default=int(DEFAULT_LIFE.total_seconds()), ge=1, le=7 * 86400)


class JoinTokenView(BaseModel):
    id: str
    kind: Literal["host", "regional"]
    idc: str
    name: str | None
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    identity_id: str | None = Field(description="who joined with it")

    @classmethod
    def of(cls, token: StoredJoinToken) -> JoinTokenView:
        return cls(**_token_fields(token))


class JoinTokenMade(JoinTokenView):
    token: str = Field(description="the secret text; shown now and never again")

    @classmethod
    def made(cls, token: MadeJoinToken) -> JoinTokenMade:
        return cls(**_token_fields(token.stored), token=token.text)


class MemberView(BaseModel):
    id: str
    name: str
    idc: str
    state: State
    last_seen_at: datetime | None
    version: str
    created_at: datetime


class LabelsBody(_Body):
    """All labels of a host; those that are left out are taken away."""

    labels: dict[str, str] = Field(max_length=64, examples=[{"rack": "r1"}])


class HostView(MemberView):
    facts: Mapping[str, Any]
    labels: Mapping[str, str]

    @classmethod
    def of(cls, seen: Seen) -> HostView:
        host = seen.member
        facts = host.facts if isinstance(host, Host) else {}
        labels = host.labels if isinstance(host, Host) else {}
        return cls(**_member_fields(seen), facts={"engines": [], **facts}, labels=labels)


class RegionalView(MemberView):
    addresses: Sequence[str]
    content_url: str
    swarm_url: str
    peer_address: str
    warnings: Sequence[str] = Field(description="what it said last is wrong there: a second DHCP server, a full disk")

    @classmethod
    def of(cls, seen: Seen) -> RegionalView:
        regional = seen.member
        assert isinstance(regional, Regional)  # noqa: S101  the route asked for regionals
        return cls(
            **_member_fields(seen),
            addresses=list(regional.addresses),
            content_url=regional.content_url,
            swarm_url=regional.swarm_url,
            peer_address=regional.peer_address,
            warnings=list(regional.warnings),
        )


def _member_fields(seen: Seen) -> dict[str, Any]:
    member = seen.member
    return {
        "id": member.id,
        "name": member.name,
        "idc": member.idc,
        "state": seen.state,
        "last_seen_at": member.last_seen_at,
        "version": member.version,
        "created_at": member.created_at,
    }


def _token_fields(token: StoredJoinToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "kind": token.kind,
        "idc": token.idc,
        "name": token.name,
        "created_by": token.created_by,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "used_at": token.used_at,
        "identity_id": token.identity_id,
    }
