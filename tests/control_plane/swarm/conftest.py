"""The fixtures of fixtures.py, which tests of instances use too."""

from __future__ import annotations

from tests.control_plane.swarm.fixtures import (
    box,
    describer,
    egress,
    fleet,
    jobs,
    keys,
    members,
    shelf,
    swarm,
    tenants,
    tokens,
)

__all__ = ["box", "describer", "egress", "fleet", "jobs", "keys", "members", "shelf", "swarm", "tenants", "tokens"]
