"""How long the last request of a large upload to S3 takes once its bytes are there."""

from __future__ import annotations

from benchmarks.registry.plan import Plan, note


def measure(plan: Plan) -> None:
    note("not here yet")
