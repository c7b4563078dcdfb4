"""Limits from the wire. A rule in words that this version does not know is left out: it limits nothing."""

from __future__ import annotations

from collections.abc import Mapping

from common.limits import DailyWindow, LimitRule, Link
from proto.content.v1 import content_pb2

_LINKS: Mapping[int, Link] = {
    content_pb2.LINK_WAN_DOWN: Link.WAN_DOWN,
    content_pb2.LINK_REGIONAL_UP: Link.REGIONAL_UP,
    content_pb2.LINK_HOST_UP: Link.HOST_UP,
    content_pb2.LINK_HOST_DOWN: Link.HOST_DOWN,
}


def rules_from(message: content_pb2.Limits) -> tuple[LimitRule, ...]:
    return tuple(
        LimitRule(
            link=_LINKS[rule.link],
            bytes_per_second=rule.bytes_per_second,
            tenant_id=rule.tenant_id,
            window=DailyWindow(rule.from_minute, rule.until_minute, rule.time_zone or "UTC"),
        )
        for rule in message.rules
        if rule.link in _LINKS
    )
