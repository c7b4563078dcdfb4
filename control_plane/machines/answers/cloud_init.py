"""cloud-config: what a system made from an image reads at its first boot, and what Ubuntu's installer hands on; pure.

Source: cloud-init's module reference and its NoCloud data source. Invariant: only data leaves here, never text; a YAML
library writes it.
"""

from __future__ import annotations

from typing import Any

from control_plane.machines.answers.late import Late
from control_plane.machines.answers.model import Ending, Family, Installation, User
from control_plane.machines.answers.netplan import netplan

_SCRIPT = "/var/lib/cloud/longshore-post.sh"


def accounts(it: Installation) -> dict[str, Any]:
    """Host name, time and who may log in: what both the installed and the streamed system take."""
    made: dict[str, Any] = {
        "hostname": it.hostname,
        **({"fqdn": f"{it.hostname}.{it.domain}"} if it.domain else {}),
        "manage_etc_hosts": True,
        "timezone": it.timezone,
        "users": [_root(it), *(_user(user, it.system.family) for user in it.users)],
        "disable_root": not it.root_ssh_keys,
        "ssh_pwauth": any(user.password_hash for user in it.users),
    }
    if it.ntp_servers:
        made["ntp"] = {"enabled": True, "servers": list(it.ntp_servers)}
    return made


def _root(it: Installation) -> dict[str, Any]:
    """`hashed_passwd` also counts for an account that is there already."""
    made: dict[str, Any] = {"name": "root", "lock_passwd": it.root_password_hash is None}
    if it.root_password_hash is not None:
        made["hashed_passwd"] = it.root_password_hash
    return {**made, "ssh_authorized_keys": list(it.root_ssh_keys)} if it.root_ssh_keys else made


def _user(user: User, family: Family) -> dict[str, Any]:
    made: dict[str, Any] = {"name": user.name, "shell": "/bin/bash", "lock_passwd": user.password_hash is None}
    if user.full_name:
        made["gecos"] = user.full_name
    if user.password_hash is not None:
        made["hashed_passwd"] = user.password_hash
    if user.ssh_keys:
        made["ssh_authorized_keys"] = list(user.ssh_keys)
    if user.administrator:
        made["groups"] = ["sudo" if family in (Family.DEBIAN, Family.UBUNTU) else "wheel"]
        if user.password_hash is None:
            made["sudo"] = "ALL=(ALL) NOPASSWD:ALL"
    return made


def user_data(it: Installation, late: Late) -> dict[str, Any]:
    """For an image. The first boot may be in a network that does not reach the regional: nothing here needs it, unless
    the profile takes packages from there.
    """
    made = {**accounts(it), "locale": it.locale, "keyboard": {"layout": it.keyboard}}
    made |= {"growpart": {"mode": "auto", "devices": ["/"]}, "resize_rootfs": True}
    if it.packages:
        made |= {"package_update": True, "packages": list(it.packages)}
    if it.repositories and it.system.family in (Family.DEBIAN, Family.UBUNTU):
        made["apt"] = {"sources": apt_sources(it, late)}
    elif it.repositories:
        made["yum_repos"] = {
            one.name: {"name": one.name, "baseurl": late.at(one.location), "enabled": True} for one in it.repositories
        }
    if it.post_script:
        made["write_files"] = [{"path": _SCRIPT, "permissions": "0700", "content": it.post_script}]
        made["runcmd"] = [["/bin/sh", _SCRIPT]]
    if it.ending is Ending.POWER_OFF:
        made["power_state"] = {"mode": "poweroff", "message": "installed", "timeout": 30}
    return made


def apt_sources(it: Installation, late: Late) -> dict[str, Any]:
    """Sources of apt, as curtin and cloud-init both name them."""
    made = {}
    for one in it.repositories:
        source = " ".join(["deb", late.at(one.location), one.suite, *one.components])
        made[f"{one.name}.list"] = {"source": source, **({"key": one.key} if one.key else {})}
    return made


def meta_data(it: Installation) -> dict[str, Any]:
    """The disk is new with each installation, so the machine's id is enough to be an instance of its own."""
    return {"instance-id": f"longshore-{it.machine_id}", "local-hostname": it.hostname}


def network_config(it: Installation) -> dict[str, Any]:
    return netplan(it.network)
