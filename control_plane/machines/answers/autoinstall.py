"""Ubuntu's autoinstall; pure. Source: the autoinstall reference of Ubuntu's server installer (subiquity).

Invariant: only data leaves here, never text; a YAML library writes it. Lines of shell in it hold nothing but what
passed a rule.
"""

from __future__ import annotations

from typing import Any

from control_plane.machines.answers.cloud_init import accounts, apt_sources
from control_plane.machines.answers.curtin_storage import storage
from control_plane.machines.answers.finishing import FINISH, fetch, fetch_and_run
from control_plane.machines.answers.late import Late
from control_plane.machines.answers.model import Ending, Installation
from control_plane.machines.answers.netplan import netplan

USER_DATA, META_DATA, VENDOR_DATA = "user-data", "meta-data", "vendor-data"


def parts(it: Installation, late: Late) -> dict[str, Any]:
    """The keys below `autoinstall`."""
    made: dict[str, Any] = {
        "version": 1,
        "locale": it.locale,
        "keyboard": {"layout": it.keyboard},
        "timezone": it.timezone,
        "network": netplan(it.network),
        "apt": _apt(it, late),
        "storage": storage(it),
        "ssh": {"install-server": True, "allow-pw": any(user.password_hash for user in it.users)},
        "updates": "security",
        "user-data": accounts(it),
    }
    if it.packages:
        made["packages"] = list(it.packages)
    made["late-commands"] = _late_commands(it, late)
    made["error-commands"] = [f"{fetch(late)} && sh /tmp/{FINISH} failed"]
    made["shutdown"] = "poweroff" if it.ending is Ending.POWER_OFF else "reboot"
    return made


def boot_arguments(late: Late) -> tuple[str, ...]:
    """cloud-init would take the installer's `url=`, its ISO, for a configuration (canonical/cloud-init#6836)."""
    return ("autoinstall", f"ds=nocloud-net;s={late.document('')}", "cloud-config-url=/dev/null", "ip=dhcp")


def _apt(it: Installation, late: Late) -> dict[str, Any]:
    made: dict[str, Any] = {"preserve_sources_list": False, "geoip": False}
    if it.source:
        mirror = [{"arches": ["default"], "uri": late.at(it.source)}]
        made |= {"primary": mirror, "security": mirror}
    if it.repositories:
        made["sources"] = apt_sources(it, late)
    return made


def _late_commands(it: Installation, late: Late) -> list[str]:
    commands = []
    if it.kernel_arguments:
        line = f'GRUB_CMDLINE_LINUX="{" ".join(it.kernel_arguments)}"'
        place = "/etc/default/grub.d/90-longshore.cfg"
        commands.append(f"mkdir -p /target/etc/default/grub.d && echo '{line}' >/target{place}")
        commands.append("curtin in-target --target=/target -- update-grub")
    return [*commands, fetch_and_run(late, "/target", "curtin in-target --target=/target --")]
