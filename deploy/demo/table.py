"""The live table of the demo and the proof at its end; reads only what the public API says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

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


def picture(rows: Sequence[Row], rates: Rates, now: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("HOST", "IDC", "FROM CENTRE", "FROM REGIONAL", "FROM PEERS", "HELD", "RATE", "STATE"):
        table.add_column(heading, justify="left" if heading in ("HOST", "IDC", "STATE") else "right")
    for row in sorted(rows, key=lambda row: (row["idc"], row["host"])):
        contents = row["contents"]
        table.add_row(
            row["host"],
            row["idc"],
            size_text(contents["from_centre_bytes"]),
            size_text(contents["from_regional_bytes"]),
            size_text(contents["from_peers_bytes"]),
            f"{100 * contents['held_bytes'] // max(1, contents['total_bytes'])} %",
            f"{size_text(rates.of(row, now))}/s",
            state(row),
        )
    return table


def state(row: Row) -> str:
    health = f", {row['health']}" if row["health"] in ("starting", "healthy", "unhealthy") else ""
    detail = f": {row['detail']}" if row["phase"] == "failed" else ""
    return f"{row['phase']}{health}{detail}"


def settled(row: Row) -> bool:
    """Verified where nothing shall run; running, and healthy if it has a health check, where something shall."""
    if not row["contents"]["verified"]:
        return False
    if row["desired_state"] == "held":
        return bool(row["phase"] == "verified")
    return bool(row["phase"] == "running" and row["health"] in ("healthy", "none"))


def proof(rows: Sequence[Row], egress: Mapping[str, int], image_bytes: int, digests: int) -> tuple[Table, bool]:
    """What was moved, and whether it is what was promised: each content crossed to each IDC once, peers carried the
    rest.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", title="Proof", title_justify="left")
    for heading in ("IDC", "LEFT THE CENTRE", "COPIES", "BETWEEN PEERS", "FROM REGIONAL", "HOSTS VERIFIED"):
        table.add_column(heading, justify="right" if heading != "IDC" else "left")
    good = True
    for idc in sorted({row["idc"] for row in rows}):
        mine = [row for row in rows if row["idc"] == idc]
        verified = sum(1 for row in mine if row["contents"]["verified"])
        copies = egress.get(idc, 0) / image_bytes
        good = good and verified == len(mine) and copies <= 1.05
        table.add_row(
            idc,
            size_text(egress.get(idc, 0)),
            f"{copies:.3f}",
            size_text(sum(row["contents"]["from_peers_bytes"] for row in mine)),
            size_text(sum(row["contents"]["from_regional_bytes"] for row in mine)),
            f"{verified} of {len(mine)}, {verified * digests} digests checked",
        )
    return table, good
