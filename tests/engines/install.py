"""`python -m tests.engines.install [GROUP...]`: bring the Debian packages of the tests' engines, all groups by default.

Only what is missing is installed, without recommended packages. Where the machine runs systemd, Debian's packages start
their own service on its usual port; the tests never use that one. Where this is not root on Debian it says so and does
nothing: the tests that need the engines are then skipped with their reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.engines import boot_kernel, cloud_init_schema

GROUPS: dict[str, tuple[str, ...]] = {
    "answers": ("debconf", "busybox-static"),
    "postgresql": ("postgresql", "postgresql-client"),
    "redis": ("redis-server",),
    "etcd": ("etcd-server",),
    "docker": ("docker.io", "iptables", "busybox-static", "ca-certificates"),
    "lxd": ("lxd", "uidmap", "dnsmasq-base", "nftables", "squashfs-tools", "xz-utils", "busybox-static"),
    "registry-clients": ("skopeo", "podman"),
    "registry": ("docker-registry",),
    "ceph": ("ceph-mon", "ceph-osd", "radosgw", "ceph-common"),
    "tools": ("iproute2", "util-linux", "nginx-light"),
    "packages": ("debootstrap", "dnf", "rpm", "createrepo-c"),
    "dhcp": ("isc-dhcp-client", "udhcpc", "iproute2", "kea-admin"),
    "swarm": ("iproute2", "util-linux", "nginx-light", "curl", "aria2", "transmission-cli"),
    "netboot": (
        "qemu-system-x86",
        "ipxe-qemu",
        "ipxe",
        "ovmf",
        "seabios",
        "grub-common",
        "busybox-static",
        "iproute2",
        "util-linux",
    ),
    "tftp": ("iproute2", "curl", "atftp", "dnsmasq-base", "tftpd-hpa"),
}
# Groups that also unpack what must not be installed.
_UNPACKED = {"netboot": boot_kernel, "answers": cloud_init_schema}
# Another run of apt on the same machine is waited for, in seconds, instead of failing.
_LOCK_SECONDS = 900


def missing_packages(groups: Sequence[str]) -> list[str]:
    wanted = [package for group in groups for package in GROUPS[group]]
    return [package for package in dict.fromkeys(wanted) if not _is_installed(package)]


def _is_installed(package: str) -> bool:
    answer = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True, check=False
    )
    return answer.returncode == 0 and answer.stdout.strip() == "installed"


def _apt_get(*arguments: str, cwd: str | None = None) -> None:
    subprocess.run(
        ["apt-get", "-q", "-o", f"DPkg::Lock::Timeout={_LOCK_SECONDS}", *arguments],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", **_proxy_settings()},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        check=True,
    )


def _proxy_settings() -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "no_proxy")
    return {name: value for name in names if (value := os.environ.get(name))}  # noqa: TID251  apt reads them itself


def why_not() -> str | None:
    """Why this machine cannot be prepared, or None."""
    if not Path("/etc/debian_version").exists() or shutil.which("apt-get") is None:
        return "this is not Debian: install the engines by hand, or let their tests be skipped"
    if os.geteuid() != 0:
        return "only root can install packages: run this as root, or let the engines' tests be skipped"
    return None


def main(arguments: Sequence[str]) -> int:
    groups = list(arguments) or list(GROUPS)
    if unknown := [group for group in groups if group not in GROUPS]:
        print(f"unknown group {', '.join(unknown)}; there are: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    if reason := why_not():
        print(f"engines: nothing installed: {reason}")
        return 0
    missing = missing_packages(groups)
    unpack = [name for name, one in _UNPACKED.items() if name in groups and not one.installed()]
    if not missing and not unpack:
        print(f"engines: everything of {', '.join(groups)} is installed")
        return 0
    print(f"engines: installing {', '.join([*missing, *(f'files of {name}' for name in unpack)])}", flush=True)
    try:
        _apt_get("update")
        if missing:
            _apt_get("install", "--yes", "--no-install-recommends", *missing)
        for name in unpack:
            _UNPACKED[name].install(_apt_get)
    except subprocess.CalledProcessError as error:
        print(f"engines: apt-get failed with {error.returncode}; missing: {', '.join(missing)}", file=sys.stderr)
        return 1
    print(f"engines: installed {', '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
