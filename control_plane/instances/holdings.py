"""How much of an instance's image is on its host, and where it came from; pure."""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.instances.model import Holdings, Instance
from control_plane.swarm.model import HostContent


def holdings_of(instance: Instance, contents: Iterable[HostContent]) -> Holdings:
    wanted = {content.digest: content.size_bytes for content in instance.image.all_contents()}
    mine = [
        content
        for content in contents
        if content.digest in wanted and (content.host_id, content.tenant_id) == (instance.host_id, instance.tenant_id)
    ]
    return Holdings(
        total_bytes=sum(wanted.values()),
        held_bytes=sum(min(content.held_bytes, wanted[content.digest]) for content in mine),
        verified={content.digest for content in mine if content.verified} == wanted.keys(),
        from_centre_bytes=sum(content.from_centre_bytes for content in mine),
        from_regional_bytes=sum(content.from_regional_bytes for content in mine),
        from_peers_bytes=sum(content.from_peers_bytes for content in mine),
        reused_bytes=sum(content.reused_bytes for content in mine),
    )
