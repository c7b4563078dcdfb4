"""`longshore-server collect-garbage`: the collection run by hand, and what it says."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.registry.collection.model import Preview, Run
from control_plane.registry.collection.service import CollectionService

_NAMED = 100


async def collect_garbage(service: CollectionService, *, dry_run: bool, sweep: bool) -> Sequence[str]:
    """Lines for people. Ends when nothing is due any more; a running server may do the same meanwhile."""
    if dry_run:
        return _told(await service.preview(limit=_NAMED))
    lines = []
    if sweep:
        run = await service.sweep(seconds=float("inf"))
        lines.append(f"sweep: {run.tally.adopted} contents without a record, which are collected after the grace")
    run_or_none = await service.collect(seconds=float("inf"))
    return [*lines, "nothing is due" if run_or_none is None else _line(run_or_none)]


def _line(run: Run) -> str:
    done = run.tally
    return (
        f"{done.examined} examined: {done.purged} deleted manifests given up, {done.unlinked} links ended, "
        f"{done.deleted} blobs deleted ({done.deleted_bytes} bytes), {done.failures} failures"
    )


def _told(found: Preview) -> Sequence[str]:
    named = [
        f"{each.verdict} {each.digest} {each.size} bytes{f' in {each.repository}' if each.repository else ''}: "
        f"{each.reason}"
        for each in found.candidates
    ]
    total = found.links + found.condemned + found.blobs
    more = [f"... and {total - len(named)} more"] if total > len(named) else []
    return [
        *named,
        *more,
        f"would give up {found.purges} deleted manifests, end {found.links} links ({found.links_bytes} bytes), condemn "
        f"{found.condemned} blobs and delete {found.blobs} ({found.blobs_bytes} bytes); nothing was changed",
    ]
