"""What a profile may say; pure. What installers read is held to rules of their own (`answers`)."""

from __future__ import annotations

import re

from common.errors import Invalid
from common.reference import Reference
from control_plane.machines import rules
from control_plane.machines.profiles_model import Method, ProfileInvalid, ProfileSpec

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_LARGEST_SCRIPT = 64 << 10
_LONGEST_DESCRIPTION = 1000
_MOST_INITRDS = 8
_SHORTEST_SECONDS, _LONGEST_SECONDS = 60, 24 * 3600


def check_name(name: str) -> str:
    """Raises `ProfileInvalid`."""
    if not _NAME.fullmatch(name):
        raise ProfileInvalid(
            f"{name[:80]!r} cannot name a profile", action="use 1 to 63 lower-case letters, digits and ._-"
        )
    return name


def check_description(text: str) -> str:
    if len(text) > _LONGEST_DESCRIPTION:
        raise ProfileInvalid(f"the description has {len(text)} characters", action=f"use {_LONGEST_DESCRIPTION}")
    return text


def check(spec: ProfileSpec) -> None:
    """Raises `ProfileInvalid`."""
    try:
        _check_boot(spec)
        for argument in spec.installer_arguments:
            rules.check_arguments(argument)
        for reference in images_of(spec).values():
            Reference.parse(reference)
    except ProfileInvalid:
        raise
    except Invalid as failure:
        raise ProfileInvalid(failure.detail, action=failure.action) from failure
    for name, script in (("hardware", spec.hardware_script), ("network", spec.network_script)):
        if len(script.encode()) > _LARGEST_SCRIPT or "\0" in script:
            raise ProfileInvalid(
                f"the {name} script is too large or no text", action=f"use at most {_LARGEST_SCRIPT >> 10} KiB"
            )
    if not _SHORTEST_SECONDS <= spec.longest_seconds <= _LONGEST_SECONDS:
        raise ProfileInvalid(
            f"an installation cannot take {spec.longest_seconds} s",
            action=f"give {_SHORTEST_SECONDS} to {_LONGEST_SECONDS}",
        )


def images_of(spec: ProfileSpec) -> dict[str, str]:
    """References of the images that it needs, by `planning.BOOT` and `planning.SYSTEM`."""
    found = {"boot": spec.boot.image, "system": spec.image if spec.method is Method.IMAGE else ""}
    return {name: reference for name, reference in found.items() if reference}


def _check_boot(spec: ProfileSpec) -> None:
    boot = spec.boot
    if boot.image and (boot.kernel or boot.initrds):
        raise ProfileInvalid("the installer has two sources", action="give an image, or paths below /static")
    if len(boot.initrds) > _MOST_INITRDS:
        raise ProfileInvalid(f"{len(boot.initrds)} initrds are too many", action=f"give at most {_MOST_INITRDS}")
    for path in (*([boot.kernel] if boot.kernel else []), *boot.initrds):
        rules.check_static_path(path)
    if spec.method is Method.INSTALLER:
        if not (boot.image or boot.kernel):
            raise ProfileInvalid(
                "the installer's kernel is missing", action="give boot.image, or boot.kernel and boot.initrds"
            )
        if spec.image:
            raise ProfileInvalid("an installer writes no image", action="choose the method image, or leave it out")
    elif not spec.image:
        raise ProfileInvalid("the image to write is missing", action="give image as tenant/repository:tag")
    elif boot.image or boot.kernel or boot.initrds:
        raise ProfileInvalid(
            "images are written from the regional's own installer environment", action="leave boot out"
        )
