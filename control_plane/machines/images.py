"""The images of a profile, resolved for a machine when an installation is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from common.errors import NotFound
from common.reference import Reference
from control_plane.machines import planning, profile_rules
from control_plane.machines.model import Machine
from control_plane.machines.profiles_model import ProfileInvalid, ProfileSpec
from control_plane.machines.tasks_model import TaskImage
from control_plane.registry.model import ResolvedImage
from control_plane.swarm.visibility import TenantDirectory
from control_plane.tenants.access import Permission, Principal


class ImageResolver(Protocol):
    """`registry.RegistryService`. Raises `NotFound`."""

    async def resolve(
        self, reference: Reference, architecture: str = "amd64", operating_system: str = "linux"
    ) -> ResolvedImage: ...


@dataclass(frozen=True, slots=True)
class ResolvedImages:
    """`tenant_id`: of the repository of the first, "" without any."""

    images: Mapping[str, TaskImage]
    tenant_id: str


class Images:
    def __init__(self, images: ImageResolver, tenants: TenantDirectory) -> None:
        self._images = images
        self._tenants = tenants

    async def resolved(self, principal: Principal, spec: ProfileSpec, machine: Machine) -> ResolvedImages:
        """By `planning.BOOT` and `planning.SYSTEM`. Raises `NotFound`, `Denied`, `ProfileInvalid` for one that does not
        hold what it should.
        """
        found: dict[str, TaskImage] = {}
        tenant_id = ""
        for use, text in profile_rules.images_of(spec).items():
            reference = Reference.parse(text)
            principal.require(Permission.IMAGE_PULL, reference.tenant)
            image = await self._images.resolve(reference, architecture_of(machine))
            found[use] = _kept(text, image)
            _check_layers(use, text, found[use])
            tenant_id = tenant_id or await self._tenant_id(reference.tenant)
        return ResolvedImages(found, tenant_id)

    async def _tenant_id(self, name: str) -> str:
        found = (await self._tenants.ids_of([name])).get(name)
        if found is None:
            raise NotFound(f"there is no tenant {name[:80]!r}", action="check `longshore tenant list`")
        return found


def architecture_of(machine: Machine) -> str:
    """In the words of images."""
    reported = machine.inventory.cpu_architecture if machine.inventory is not None else ""
    if "arm64" in (machine.boot.firmware.value or machine.architecture) or reported == "aarch64":
        return "arm64"
    return "amd64"


def _kept(text: str, image: ResolvedImage) -> TaskImage:
    return TaskImage(
        reference=text,
        manifest=str(image.manifest.digest),
        contents=tuple((str(one.digest), one.size, one.media_type) for one in image.contents),
    )


def _check_layers(use: str, text: str, image: TaskImage) -> None:
    layers = len(image.contents) - 1
    if use == planning.SYSTEM and layers != 1:
        raise ProfileInvalid(f"{text} has {layers} layers", action="an image for a disk has one: the disk's contents")
    if use == planning.BOOT and layers < 1:
        raise ProfileInvalid(f"{text} has no layers", action="push the kernel as its first layer, then the initrds")
