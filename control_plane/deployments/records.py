"""Rules and explanations as JSON values of a row, and back; pure. Fields that older rows lack take their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control_plane.fleet.placement.model import Explanation, Rules, Spread
from control_plane.fleet.placement.selectors import parse_requirement, written

Record = Mapping[str, Any]
_LISTS = ("idcs", "hosts", "near", "apart", "architectures")


def rules_record(rules: Rules) -> dict[str, Any]:
    return {
        "count": rules.count,
        "engine": rules.engine,
        "per_host": rules.per_host,
        "labels": [written(one) for one in rules.labels],
        "spread": [{"by": one.by, "max_skew": one.max_skew} for one in rules.spread],
        **{name: list(getattr(rules, name)) for name in _LISTS},
    }


def rules_of(record: Record) -> Rules:
    return Rules(
        count=record["count"],
        engine=record.get("engine", ""),
        per_host=record.get("per_host", 1),
        labels=tuple(parse_requirement(text) for text in record.get("labels", ())),
        spread=tuple(Spread(one["by"], one["max_skew"]) for one in record.get("spread", ())),
        **{name: tuple(record.get(name, ())) for name in _LISTS},
    )


def why_record(why: Explanation) -> dict[str, Any]:
    return {"summary": dict(why.summary), "hosts": dict(why.hosts)}


def why_of(record: Record) -> Explanation:
    return Explanation(dict(record.get("summary", {})), dict(record.get("hosts", {})))
