"""Limits on their way to those who keep them: a message after Welcome, and again whenever what it says has changed."""

from __future__ import annotations

from collections.abc import Sequence

from common.limits import LimitRule, Link
from control_plane.database import Database
from control_plane.fleet.limits import store
from control_plane.fleet.limits.model import HOST_LINKS, REGIONAL_LINKS, Scope, ScopeKind, rules_for
from control_plane.fleet.session import Session
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2
from proto.regional.v1 import regional_pb2

_LINKS = {
    Link.WAN_DOWN: content_pb2.LINK_WAN_DOWN,
    Link.REGIONAL_UP: content_pb2.LINK_REGIONAL_UP,
    Link.HOST_UP: content_pb2.LINK_HOST_UP,
    Link.HOST_DOWN: content_pb2.LINK_HOST_DOWN,
}


class LimitsTelling:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self, sessions: Sequence[Session]) -> None:
        """Those among them who were told otherwise."""
        if not sessions:
            return
        async with self._database.reading() as connection:
            policies = await store.all_policies(connection)
        messages: dict[tuple[str, str, str], content_pb2.Limits] = {}
        for session in sessions:
            member = session.member
            # Few hosts have limits of their own; all others of an IDC share one message.
            host_id = member.id if Scope(ScopeKind.HOST, member.id) in policies else ""
            place = member.kind, member.idc_id, host_id
            if place not in messages:
                links = HOST_LINKS if member.kind == "host" else REGIONAL_LINKS
                messages[place] = limits_message(rules_for(policies, member.idc_id, links, host_id))
            if session.told_limits != messages[place]:
                session.told_limits = messages[place]
                session.send(_down(member.kind, messages[place]))


def limits_message(rules: Sequence[LimitRule]) -> content_pb2.Limits:
    return content_pb2.Limits(
        rules=[
            content_pb2.LimitRule(
                link=_LINKS[rule.link],
                tenant_id=rule.tenant_id,
                bytes_per_second=rule.bytes_per_second,
                from_minute=rule.window.from_minute,
                until_minute=rule.window.until_minute,
                time_zone=rule.window.time_zone,
            )
            for rule in rules
        ]
    )


def _down(kind: str, limits: content_pb2.Limits) -> agent_pb2.PlaneMessage | regional_pb2.PlaneMessage:
    if kind == "host":
        return agent_pb2.PlaneMessage(limits=limits)
    return regional_pb2.PlaneMessage(limits=limits)
