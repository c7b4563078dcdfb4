"""iPXE scripts; pure. Invariant: a machine for which nothing was approved goes to its disk, and never installs."""

from __future__ import annotations

_LOCAL_DISK = """#!ipxe
# No task for this machine: on to the next boot device. UEFI goes on after `exit 1`; a plain `exit` ends in its menu.
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit 1
"""


def local_disk() -> str:
    return _LOCAL_DISK
