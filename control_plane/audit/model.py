"""Acts, entries and what one may see of them; pure.

Invariant: an entry is bounded and printable whatever it was made of, so that both databases keep it as it is: text
without NUL and lone surrogates, details without floats (JSONB would spell them otherwise), and nothing whose name says
that it is a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

MAX_DETAILS = 4096
_MAX_DEPTH = 6
_SECRET = re.compile(r"pass|secret|token|authorization|credential|private", re.IGNORECASE)
# What each column takes, in characters.
LIMITS: Mapping[str, int] = {
    "operation": 64,
    "outcome": 16,
    "operator_type": 16,
    "operator_id": 64,
    "operator": 128,
    "tenant": 64,
    "repository": 255,
    "digest": 140,
    "tag": 128,
    "subject": 255,
    "error": 500,
    "client": 64,
    "user_agent": 300,
    "request_id": 64,
}


class Outcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    DENIED = "denied"


class OperatorKind(StrEnum):
    USER = "user"
    ROBOT = "robot"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Operator:
    """Who. The name is kept as it was then."""

    kind: OperatorKind
    id: str = ""
    name: str = ""


SYSTEM = Operator(OperatorKind.SYSTEM, name="system")
ANONYMOUS = Operator(OperatorKind.ANONYMOUS, name="anonymous")


@dataclass(frozen=True, slots=True)
class Act:
    """What happened. `operation` is `<domain>.<verb>`; `subject` is what it happened to when that is no part of a
    repository (a user, a key, a rule). `tenant` "": of the platform.
    """

    operation: str
    operator: Operator
    tenant: str = ""
    repository: str = ""
    digest: str = ""
    tag: str = ""
    subject: str = ""
    outcome: Outcome = Outcome.SUCCESS
    error: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One act with its time and origin, as the database keeps it."""

    id: str
    occurred_at: datetime
    operation: str
    outcome: str
    operator_type: str
    operator_id: str
    operator: str
    tenant: str
    repository: str
    digest: str
    tag: str
    subject: str
    error: str
    client: str
    user_agent: str
    request_id: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sealed:
    """An entry in its place. `hash` covers it, its number and the hash before it."""

    sequence: int
    entry: Entry
    hash: str


@dataclass(frozen=True, slots=True)
class Link:
    """A place in the chain: everything up to it is known by its hash."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """The head of the chain at a moment. `seal` was made with the master key, which is not in the database."""

    link: Link
    made_at: datetime
    seal: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Entries up to `link` were dropped after an export whose SHA-256 is `export`."""

    link: Link
    export: str
    made_at: datetime
    made_by: str
    seal: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a reader may see: everything, or the entries of tenants since each of them was made (a name may have had
    another owner before).
    """

    reader: Operator
    everything: bool = False
    tenants: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Search:
    """None: any."""

    tenant: str | None = None
    operation: str | None = None
    operator: str | None = None
    repository: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one stretch of the chain. `at` is where the next stretch goes on, None at the end; `broken` names the first
    entry that does not hold, `why` says what is wrong with it.
    """

    checked: int
    at: Link | None
    last: Link
    broken: int | None = None
    why: str = ""

    @property
    def whole(self) -> bool:
        return self.broken is None


def entry_of(act: Act, entry_id: str, moment: datetime, client: str, user_agent: str, request_id: str) -> Entry:
    texts = {
        "operation": act.operation,
        "outcome": act.outcome.value,
        "operator_type": act.operator.kind.value,
        "operator_id": act.operator.id,
        "operator": act.operator.name,
        "tenant": act.tenant,
        "repository": act.repository,
        "digest": act.digest,
        "tag": act.tag,
        "subject": act.subject,
        "error": act.error,
        "client": client,
        "user_agent": user_agent,
        "request_id": request_id,
    }
    cleaned = {name: clean(text, LIMITS[name]) for name, text in texts.items()}
    return Entry(id=entry_id, occurred_at=moment, details=clean_details(act.details), **cleaned)


def clean(text: str, longest: int) -> str:
    if text.isascii() and "\x00" not in text:
        return text[:longest]
    return text.encode("utf-8", "replace").decode().replace("\x00", "?")[:longest]


def clean_details(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is left without secrets, floats and depth; a remark instead of what is too long."""
    if not details:
        return {}
    kept: Mapping[str, Any] = _cleaned(details, _MAX_DEPTH)
    size = len(json.dumps(kept, ensure_ascii=False).encode())
    return kept if size <= MAX_DETAILS else {"left_out": f"{size} bytes of details"}


def _cleaned(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return clean(value, MAX_DETAILS)
    if isinstance(value, Mapping) and depth:
        names = {clean(str(name), 128): part for name, part in value.items()}
        return {name: _cleaned(part, depth - 1) for name, part in names.items() if not _SECRET.search(name)}
    if isinstance(value, Sequence) and depth and not isinstance(value, bytes | bytearray):
        return [_cleaned(part, depth - 1) for part in value[:100]]
    return clean(str(value), 255)
