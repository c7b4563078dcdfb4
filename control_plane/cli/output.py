"""What people and programs get to see: a table or JSON on standard output, progress and remarks on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
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
from rich.text import Text

_WIDE = 10_000


class Output:
    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        # Names are other people's words: neither markup nor emoji codes in them mean anything. Into a pipe or a file a
        # row is one line, however long.
        self._out = Console(highlight=False, markup=False, emoji=False)
        if not self._out.is_terminal:
            self._out = Console(highlight=False, markup=False, emoji=False, width=_WIDE)
        self.err = Console(stderr=True, highlight=False, markup=False, emoji=False)

    def rows(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
        """`columns`: heading by key; a key may be a dotted path."""
        if self.as_json:
            self._json(list(rows))
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in columns.values():
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(row, key)) for key in columns))
        self._out.print(table)

    def item(self, item: Mapping[str, Any], text: str) -> None:
        """One thing: JSON for programs, a sentence for people."""
        if self.as_json:
            self._json(item)
        else:
            print(text)

    def details(self, item: Mapping[str, Any]) -> None:
        """One thing with all its fields, nested ones as dotted names."""
        self.item(item, "\n".join(f"{name}: {value}" for name, value in _flat(item, "")))

    def remark(self, text: str) -> None:
        if not self.as_json:
            self.err.print(text)

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
        print(json.dumps(value, indent=2, sort_keys=True))


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
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(_text(part) for part in value.values())  # an engine: "docker 28.1"
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value) or "-"
    return str(value)


def _flat(item: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in item.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, _text(value)
