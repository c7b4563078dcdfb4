"""Label requirements as people write them, and what rules may ask for; pure.

The words are those of Kubernetes' label selectors, because operators know them: `rack=r1`, `rack!=r1`, `rack in
(r1,r2)`, `rack notin (r1,r2)`, `rack`, `!rack`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from control_plane.fleet.placement.model import (
    BY_IDC,
    CapacityPolicy,
    Operator,
    PlacementInvalid,
    Requirement,
    Rules,
)

_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(_WORD)
_SET = re.compile(rf"\s*({_WORD})\s+(in|notin)\s+\(([^()]*)\)\s*")
_EQUAL = re.compile(rf"\s*({_WORD})\s*(==|=|!=)\s*({_WORD})\s*")
_BARE = re.compile(rf"\s*(!?)\s*({_WORD})\s*")
MOST_COUNT = 10_000
MOST_PER_HOST = 100
MOST_ENTRIES = 32
MOST_HOSTS = 1000
_MOST_OVERCOMMIT = 100.0


def parse_requirement(text: str) -> Requirement:
    """Raises `PlacementInvalid`."""
    if found := _SET.fullmatch(text):
        values = tuple(sorted({part.strip() for part in found[3].split(",") if part.strip()}))
        if values and all(_KEY.fullmatch(value) for value in values):
            return Requirement(found[1], Operator(found[2]), values)
    elif found := _EQUAL.fullmatch(text):
        return Requirement(found[1], Operator.NOT_IN if found[2] == "!=" else Operator.IN, (found[3],))
    elif found := _BARE.fullmatch(text):
        return Requirement(found[2], Operator.ABSENT if found[1] else Operator.EXISTS)
    raise PlacementInvalid(
        f"{text[:120]!r} says nothing of a label",
        action="write KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY",
        field="where",
    )


def written(requirement: Requirement) -> str:
    """`parse_requirement` of it is `requirement` again."""
    match requirement.operator:
        case Operator.EXISTS:
            return requirement.key
        case Operator.ABSENT:
            return f"!{requirement.key}"
        case operator:
            return f"{requirement.key} {operator.value} ({','.join(requirement.values)})"


def check_rules(rules: Rules) -> Rules:
    """`rules` itself; raises `PlacementInvalid`, naming the field."""
    if rules.count is not None:
        _check_number("count", rules.count, 0, MOST_COUNT)
    elif rules.per_host != 1 or rules.spread:
        raise _wrong("per_host", "one on every host leaves nothing to spread", "leave per_host and spread out")
    _check_number("per_host", rules.per_host, 1, MOST_PER_HOST)
    if len(rules.hosts) > MOST_HOSTS:
        raise _wrong("hosts", f"{len(rules.hosts)} hosts are named", f"name at most {MOST_HOSTS}")
    lists: dict[str, Sequence[object]] = {
        "idcs": rules.idcs,
        "where": rules.labels,
        "spread": rules.spread,
        "near": rules.near,
        "apart": rules.apart,
        "architectures": rules.architectures,
    }
    for field, entries in lists.items():
        if len(entries) > MOST_ENTRIES:
            raise _wrong(field, f"{len(entries)} entries", f"give at most {MOST_ENTRIES}")
    for spread in rules.spread:
        _check_number("spread.max_skew", spread.max_skew, 1, MOST_COUNT)
        if spread.by != BY_IDC and not _KEY.fullmatch(spread.by):
            raise _wrong("spread.by", f"{spread.by[:80]!r} divides no hosts", "give idc, or the key of a label")
    if both := set(rules.near) & set(rules.apart):
        raise _wrong("near", f"{min(both)[:80]!r} is to be near and apart", "choose one")
    return rules


def check_policy(policy: CapacityPolicy) -> CapacityPolicy:
    """`policy` itself; raises `PlacementInvalid`, naming the field."""
    for field in ("reserve_cpus", "reserve_memory_bytes", "reserve_disk_bytes"):
        value = getattr(policy, field)
        if value is not None:
            _check_number(field, value, 0, 1 << 60)
    for field in ("cpu_overcommit", "memory_overcommit"):
        value = getattr(policy, field)
        if value is not None:
            _check_number(field, value, 0.1, _MOST_OVERCOMMIT)
    return policy


def _check_number(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise _wrong(field, f"{field} is {value}", f"give {low:g} to {high:g}")


def _wrong(field: str, detail: str, action: str) -> PlacementInvalid:
    return PlacementInvalid(detail, action=action, field=field)
