"""What an upstream's failure means to whoever pulls through a mirror."""

from __future__ import annotations

from common.digest import DigestMismatch
from common.errors import Failure, RateLimited, Unavailable
from control_plane.registry.failures import BlobUnknown, ManifestInvalid, ManifestTooLarge, SizeInvalid
from control_plane.registry.mirroring.directory import Mirrored
from control_plane.registry.mirroring.failures import UpstreamAway, UpstreamDenies, UpstreamUntrue
from control_plane.registry.remote.failures import (
    RemoteAway,
    RemoteBusy,
    RemoteDenied,
    RemoteMissing,
    RemoteRejected,
    RemoteUntrue,
)
from control_plane.web.outbound import RedirectRefused, TargetAway
from control_plane.web.outbound_addresses import AddressRefused

_UNTRUE = (RemoteUntrue, DigestMismatch, ManifestInvalid, ManifestTooLarge, SizeInvalid)
_AWAY = (RemoteAway, RemoteBusy, TargetAway)
_REFUSING = (RemoteDenied, RemoteRejected, AddressRefused, RedirectRefused)


def translated(failure: Exception, mirrored: Mirrored) -> Failure:
    """In the words of the mirror. What is about us (quota, disk, database) stays as it is."""
    who = f"the mirror {mirrored.mirror.name} of {mirrored.mirror.upstream}"
    if isinstance(failure, RemoteMissing):
        return BlobUnknown(f"{who} finds no such blob upstream", action="check the digest")
    if isinstance(failure, _UNTRUE):
        return UpstreamUntrue(
            f"{who} got what it cannot keep: {failure.detail}", action="check the upstream", retry_after_seconds=60
        )
    if isinstance(failure, _REFUSING):
        return UpstreamDenies(
            f"{who} is not let in: {failure.detail}",
            action="an administrator of the tenant checks the mirror's upstream and credentials",
            retry_after_seconds=60,
            mirror=mirrored.mirror.name,
        )
    if isinstance(failure, TimeoutError):
        return UpstreamAway(f"{who} took too long", action="try again later", retry_after_seconds=10)
    if isinstance(failure, _AWAY):
        wait = failure.retry_after_seconds if isinstance(failure, Unavailable | RateLimited) else 5.0
        return UpstreamAway(
            f"{who} cannot reach it: {failure.detail}",
            action="try again later",
            retry_after_seconds=max(5.0, wait),
            mirror=mirrored.mirror.name,
        )
    if isinstance(failure, Failure):
        return failure
    raise failure


def is_about_upstream(failure: Failure) -> bool:
    return isinstance(failure, UpstreamAway | UpstreamDenies | UpstreamUntrue)
