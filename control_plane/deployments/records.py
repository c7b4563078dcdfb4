"""Rules, rollouts and explanations as JSON values of a row, and back; pure. Fields that older rows lack take their
defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from control_plane.deployments.model import OnFailure, Pace, Rollout, RolloutState
from control_plane.fleet.placement.model import Explanation, Rules, Spread
from control_plane.fleet.placement.selectors import parse_requirement, written
from control_plane.instances.model import InstanceImage
from control_plane.instances.records import image_of, image_record

Record = Mapping[str, Any]
_TIMES = ("began_at", "resumed_at", "ended_at")
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


def images_record(images: Mapping[str, InstanceImage]) -> dict[str, Any]:
    return {architecture: image_record(image) for architecture, image in images.items()}


def images_of(record: Record) -> dict[str, InstanceImage]:
    return {architecture: image_of(image) for architecture, image in record.items()}


def rollout_record(rollout: Rollout) -> dict[str, Any]:
    pace = rollout.pace
    times = {name: moment.isoformat() for name in _TIMES if (moment := getattr(rollout, name)) is not None}
    spans = {"healthy": pace.healthy.total_seconds(), "patience": pace.patience.total_seconds()}
    record = {**asdict(rollout), "state": rollout.state.value, "pace": None} | dict.fromkeys(_TIMES) | times
    return record | {"pace": {**asdict(pace), "on_failure": pace.on_failure.value} | spans}


def rollout_of(record: Record) -> Rollout:
    pace = record["pace"]
    spans = {name: timedelta(seconds=pace[name]) for name in ("healthy", "patience")}
    times = {name: datetime.fromisoformat(record[name]) if record.get(name) else None for name in _TIMES}
    return Rollout(
        state=RolloutState(record["state"]),
        base=record["base"],
        pace=Pace(**{**pace, **spans, "on_failure": OnFailure(pace["on_failure"])}),
        reason=record.get("reason", ""),
        undoes=record.get("undoes", False),
        **times,
    )
