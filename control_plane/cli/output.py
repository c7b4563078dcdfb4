"""What people and programs get to see: a table or JSON on standard output, progress and remarks on standard error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table


class Output:
    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._out = Console(soft_wrap=True, highlight=False)
        self.err = Console(stderr=True, highlight=False)

    def rows(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
        """`columns`: heading by key; a key may be a dotted path."""
        if self.as_json:
            self._json(list(rows))
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in columns.values():
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*(_cell(row, key) for key in columns))
        self._out.print(table)

    def item(self, item: Mapping[str, Any], text: str) -> None:
        """One thing: JSON for programs, a sentence for people."""
        if self.as_json:
            self._json(item)
        else:
            self._out.print(text, markup=False)

    def remark(self, text: str) -> None:
        if not self.as_json:
            self.err.print(text, markup=False)

    def progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self.err,
            disable=self.as_json,
        )

    def _json(self, value: Any) -> None:
        self._out.print(json.dumps(value, indent=2, sort_keys=True), markup=False)


def size_text(size_bytes: float) -> str:
    """Binary units with one decimal: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def _cell(row: Mapping[str, Any], key: str) -> str:
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return "-"
    if key.endswith("_bytes"):
        return size_text(float(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(part.get("name", part)) if isinstance(part, Mapping) else str(part) for part in value)
    return str(value)
