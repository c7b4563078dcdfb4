"""The fixtures of fixtures.py, which tests of instances use too."""

from __future__ import annotations

from tests.control_plane.swarm.fixtures import (
    bad_peers,
    box,
    describer,
    egress,
    fleet,
    forgetting,
    jobs,
    keys,
    members,
    metrics,
    shelf,
    swarm,
    tenants,
    tokens,
    trail,
)

__all__ = [
    "bad_peers",
    "box",
    "describer",
    "egress",
    "fleet",
    "forgetting",
    "jobs",
    "keys",
    "members",
    "metrics",
    "shelf",
    "swarm",
    "tenants",
    "tokens",
    "trail",
]
