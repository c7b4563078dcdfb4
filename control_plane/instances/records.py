"""Images and specs as JSON values of a row, and back; pure.

Invariant: `spec_of(spec_record(spec)) == spec`, whatever the engine does to the order of keys. Fields that older rows
lack take their defaults, so that a field can be added without touching rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any

from common.digest import Digest
from control_plane.instances.model import (
    AdoptionWish,
    HealthCheck,
    ImageContent,
    InstanceImage,
    InstanceSpec,
    Mount,
    PortMapping,
)

Record = Mapping[str, Any]
_ContentKey = tuple[str, int, str]

# A fleet runs few images on many hosts: reading 1,000 rows of one made the same twenty contents 1,000 times.
_REMEMBERED = 1_000
_SPEC_FIELDS = fields(InstanceSpec)


def spec_record(spec: InstanceSpec) -> dict[str, Any]:
    plain = {field.name: getattr(spec, field.name) for field in _SPEC_FIELDS}
    return plain | {
        "environment": dict(spec.environment),
        "labels": dict(spec.labels),
        "ports": [asdict(port) for port in spec.ports],
        "mounts": [asdict(mount) for mount in spec.mounts],
        "health_check": None if spec.health_check is None else asdict(spec.health_check),
        "adopt": None if spec.adopt is None else asdict(spec.adopt),
    }


def spec_of(record: Record) -> InstanceSpec:
    check = record.get("health_check")
    return InstanceSpec(
        command=tuple(record.get("command", ())),
        entrypoint=tuple(record.get("entrypoint", ())),
        environment=dict(record.get("environment", {})),
        labels=dict(record.get("labels", {})),
        ports=tuple(PortMapping(**port) for port in record.get("ports", ())),
        mounts=tuple(Mount(**mount) for mount in record.get("mounts", ())),
        cpus=float(record.get("cpus", 0)),
        memory_bytes=int(record.get("memory_bytes", 0)),
        health_check=None if check is None else HealthCheck(**{**check, "test": tuple(check["test"])}),
        stop_grace_seconds=int(record.get("stop_grace_seconds", 0)),
        cpu_set=record.get("cpu_set", ""),
        disk_bytes=int(record.get("disk_bytes", 0)),
        network=record.get("network", ""),
        hostname=record.get("hostname", ""),
        user=record.get("user", ""),
        working_dir=record.get("working_dir", ""),
        privileged=bool(record.get("privileged", False)),
        adopt=None if record.get("adopt") is None else AdoptionWish(**record["adopt"]),
        stop_when_cut_off_seconds=int(record.get("stop_when_cut_off_seconds", 0)),
    )


def image_record(image: InstanceImage) -> dict[str, Any]:
    return {
        "reference": image.reference,
        "repository": image.repository,
        "tag": image.tag,
        "manifest": _content_record(image.manifest),
        "contents": [_content_record(content) for content in image.contents],
    }


def image_of(record: Record) -> InstanceImage:
    """The same object for the same image, as long as it is remembered."""
    contents = tuple(map(_content_key, (record["manifest"], *record["contents"])))
    return _known_image(record["reference"], record["repository"], record["tag"], contents)


@lru_cache(maxsize=_REMEMBERED)
def image_in(text: str) -> InstanceImage:
    """`image_of` the JSON text of a record: to read 22 contents takes 15 microseconds, to find them again 1."""
    return image_of(json.loads(text))


@lru_cache(maxsize=_REMEMBERED)
def spec_in(text: str) -> InstanceSpec:
    """`spec_of` the JSON text of a record, and the same object for the same text."""
    return spec_of(json.loads(text))


def _content_record(content: ImageContent) -> dict[str, Any]:
    return {"digest": str(content.digest), "size_bytes": content.size_bytes, "media_type": content.media_type}


def _content_key(record: Record) -> _ContentKey:
    return record["digest"], record["size_bytes"], record["media_type"]


@lru_cache(maxsize=_REMEMBERED)
def _known_image(reference: str, repository: str, tag: str, contents: tuple[_ContentKey, ...]) -> InstanceImage:
    manifest, *others = (ImageContent(Digest.parse(digest), size, kind) for digest, size, kind in contents)
    return InstanceImage(reference, repository, tag, manifest, tuple(others))
