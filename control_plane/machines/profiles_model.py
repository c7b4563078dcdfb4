"""Profiles: what to put on machines; pure.

A version of a profile never changes: what was approved is what is installed. `answers/` renders what an unattended
installer reads from it; its words are used here as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.errors import Conflict, Invalid, NotFound
from control_plane.machines.answers.model import Ending, Network, Repository, Storage, System, Template, User


class ProfileUnknown(NotFound):
    code = "profile_unknown"


class ProfileInvalid(Invalid):
    code = "profile_invalid"


class ProfileExists(Conflict):
    code = "profile_exists"


class ProfileInUse(Conflict):
    """Install tasks of it are not over."""

    code = "profile_in_use"


class Method(StrEnum):
    INSTALLER = "installer"  # the distribution's own, unattended
    IMAGE = "image"  # a disk image is streamed to the disk


class ImageFormat(StrEnum):
    RAW = "raw"
    QCOW2 = "qcow2"


@dataclass(frozen=True, slots=True)
class BootSource:
    """A kernel with its initrds: an image (its first layer is the kernel, the others are initrds in order), or paths
    below /static of the regional. Neither: the regional's own installer environment.
    """

    image: str = ""
    kernel: str = ""
    initrds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProfileSpec:
    """`boot`: the distribution's installer; `image`: of one layer, the disk's contents. `hardware_script` and
    `network_script` run in the regional's installer environment before anything is written, `wipe` empties the disk
    there. `longest_seconds`: from the machine's first boot to the end. The rest is `answers.model.Installation`'s.
    """

    system: System
    method: Method = Method.INSTALLER
    boot: BootSource = BootSource()
    image: str = ""
    image_format: ImageFormat = ImageFormat.RAW
    installer_arguments: tuple[str, ...] = ()
    hardware_script: str = field(default="", repr=False)
    network_script: str = field(default="", repr=False)
    wipe: bool = False
    longest_seconds: int = 7200
    domain: str = ""
    locale: str = "en_US.UTF-8"
    keyboard: str = "us"
    timezone: str = "UTC"
    ntp_servers: tuple[str, ...] = ()
    root_password_hash: str | None = field(default=None, repr=False)
    root_ssh_keys: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    storage: Storage = field(default_factory=Storage)
    network: Network = field(default_factory=Network)
    source: str = ""
    repositories: tuple[Repository, ...] = ()
    packages: tuple[str, ...] = ()
    post_script: str = field(default="", repr=False)
    kernel_arguments: tuple[str, ...] = ()
    ending: Ending = Ending.REBOOT
    template: Template | None = field(default=None, repr=False)
    variables: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Profile:
    """`tenant` "": the platform's, for everybody to use. `latest`: its newest version."""

    id: str
    tenant_id: str
    tenant: str
    name: str
    description: str
    latest: int
    created_at: datetime
    updated_at: datetime
    family: str
    system_version: str
    method: Method


@dataclass(frozen=True, slots=True)
class ProfileVersion:
    profile_id: str
    number: int
    spec: ProfileSpec
    created_by: str
    created_at: datetime
