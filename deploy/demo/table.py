"""The live table of the demo and the proof at its end; reads only what the public API says. Both fit in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from control_plane.cli.output import size_text

Row = Mapping[str, Any]


@dataclass
class Rates:
    """Bytes per second per instance, from the last two pictures."""

    _held: dict[str, tuple[float, int]]

    @classmethod
    def new(cls) -> Rates:
        return cls({})

    def of(self, row: Row, now: float) -> float:
        held = int(row["contents"]["held_bytes"])
        before = self._held.get(row["id"])
        if before is None or now - before[0] >= 1.0:
            self._held[row["id"]] = (now, held)
        if before is None or now <= before[0]:
            return 0.0
        return max(0.0, (held - before[1]) / (now - before[0]))


def picture(rows: Sequence[Row], rates: Rates, now: float) -> Group:
    """The hosts' names begin with their data centre's here, so that needs no column."""
    table = _table("HOST", "FROM\nCENTRE", "FROM\nREGIONAL", "FROM\nPEERS", "HELD", "RATE")
    table.add_column("STATE", vertical="bottom")
    ordered = sorted(rows, key=lambda row: (row["idc"], row["host"]))
    for row in ordered:
        contents = row["contents"]
        table.add_row(
            row["host"],
            size_text(contents["from_centre_bytes"]),
            size_text(contents["from_regional_bytes"]),
            size_text(contents["from_peers_bytes"]),
            f"{100 * contents['held_bytes'] // max(1, contents['total_bytes'])} %",
            f"{size_text(rates.of(row, now))}/s",
            state(row),
        )
    return Group(
        table, *(Text(f"{row['host']}: {row['detail']}", "red") for row in ordered if row["phase"] == "failed")
    )


def state(row: Row) -> str:
    health = f", {row['health']}" if row["health"] in ("starting", "healthy", "unhealthy") else ""
    return f"{row['phase']}{health}"


def settled(row: Row) -> bool:
    """Verified where nothing shall run; running, and healthy if it has a health check, where something shall."""
    if not row["contents"]["verified"]:
        return False
    if row["desired_state"] == "held":
        return bool(row["phase"] == "verified")
    return bool(row["phase"] == "running" and row["health"] in ("healthy", "none"))


def proof(rows: Sequence[Row], egress: Mapping[str, int], digests: int) -> tuple[Table, bool]:
    """What was moved, and whether it is what was promised: each content crossed to each IDC once, peers carried the
    rest. `digests`: how many contents each host has to check.
    """
    headings = ("IDC", "LEFT THE\nCENTRE", "COPIES", "FROM\nREGIONAL", "BETWEEN\nPEERS", "HOSTS\nVERIFIED")
    table = _table(*headings, "DIGESTS\nCHECKED")
    table.title, table.title_justify = "Proof", "left"
    good = bool(rows)
    for idc in sorted({row["idc"] for row in rows}):
        mine = [row for row in rows if row["idc"] == idc]
        verified = sum(1 for row in mine if row["contents"]["verified"])
        copies = egress.get(idc, 0) / max(1, *(row["contents"]["total_bytes"] for row in mine))
        good = good and verified == len(mine) and copies <= 1.05
        table.add_row(
            idc,
            size_text(egress.get(idc, 0)),
            f"{copies:.3f}",
            size_text(sum(row["contents"]["from_regional_bytes"] for row in mine)),
            size_text(sum(row["contents"]["from_peers_bytes"] for row in mine)),
            f"{verified} of {len(mine)}",
            f"{verified * digests} of {len(mine) * digests}",
        )
    return table, good


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, vertical="bottom")
    for heading in numbers:
        table.add_column(heading, justify="right", vertical="bottom")
    return table
