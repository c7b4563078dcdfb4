"""Parts of machines, tasks and profiles as JSON values, and back; pure.

Invariant: what is read back equals what was written. Fields that older rows lack take their defaults, so that a field
can be added without touching rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from control_plane.machines.answers.model import Network
from control_plane.machines.model import BootSettings, Inventory
from control_plane.machines.profiles_model import ProfileSpec
from control_plane.machines.tasks_model import Step, TaskImage

_BOOT = TypeAdapter(BootSettings)
_INVENTORY = TypeAdapter(Inventory)
_NETWORK = TypeAdapter(Network)
_SPEC = TypeAdapter(ProfileSpec)
_STEPS = TypeAdapter(tuple[Step, ...])
_IMAGES = TypeAdapter(dict[str, TaskImage])


def boot_record(boot: BootSettings) -> Any:
    return _BOOT.dump_python(boot, mode="json")


def boot_of(record: Any) -> BootSettings:
    return _BOOT.validate_python(record, strict=False)


def inventory_record(inventory: Inventory | None) -> Any:
    return None if inventory is None else _INVENTORY.dump_python(inventory, mode="json")


def inventory_of(record: Any) -> Inventory | None:
    return None if record is None else _INVENTORY.validate_python(record)


def network_record(network: Network | None) -> Any:
    return None if network is None else _NETWORK.dump_python(network, mode="json")


def network_of(record: Any) -> Network | None:
    return None if record is None else _NETWORK.validate_python(record)


def steps_record(steps: Sequence[Step]) -> Any:
    return _STEPS.dump_python(tuple(steps), mode="json")


def steps_of(record: Any) -> tuple[Step, ...]:
    return _STEPS.validate_python(record)


def images_record(images: Mapping[str, TaskImage]) -> Any:
    return _IMAGES.dump_python(dict(images), mode="json")


def images_of(record: Any) -> dict[str, TaskImage]:
    return _IMAGES.validate_python(record)


def spec_bytes(spec: ProfileSpec) -> bytes:
    """To be sealed: it holds secrets."""
    return _SPEC.dump_json(spec)


def spec_of(record: bytes) -> ProfileSpec:
    return _SPEC.validate_json(record)
