"""GRUB configurations, for Secure Boot: Debian's signed GRUB, which knows TFTP and no HTTP (measured); pure.

Invariant: paths are absolute on the device that GRUB itself came from, so the same text serves TFTP and HTTP; what is
not GRUB's is in single quotes; a configuration that cannot go on chains to the disk, and then leaves to the firmware.
"""

from __future__ import annotations

from collections.abc import Sequence

from regional.machines.texts import shown, words_of

# What installed systems leave on their EFI partition; the removable path last, for it may be an installer's.
_LOADERS = (
    "debian/shimx64.efi", "debian/grubx64.efi", "ubuntu/shimx64.efi", "ubuntu/grubx64.efi", "rocky/shimx64.efi",
    "centos/shimx64.efi", "redhat/shimx64.efi", "almalinux/shimx64.efi", "fedora/shimx64.efi",
    "debian/shimaa64.efi", "ubuntu/shimaa64.efi", "rocky/shimaa64.efi",
    "Microsoft/Boot/bootmgfw.efi", "BOOT/BOOTX64.EFI", "BOOT/BOOTAA64.EFI",
)  # fmt: skip
_DISK = (
    "".join(
        f"if search --no-floppy --file --set=disk /EFI/{path}; then\n"
        f"  if chainloader ($disk)/EFI/{path}; then boot; fi\nfi\n"
        for path in _LOADERS
    )
    + "exit\n"
)


def local_disk(why: str) -> str:
    return f"set timeout=0\necho '{shown(why)}'\n{_DISK}"


def wait(why: str, seconds: int, path: str) -> str:
    """`path`: of this machine's configuration."""
    return f"echo '{shown(why)}'\nsleep {seconds}\nconfigfile {_quoted(path)}\n{_DISK}"


def boot(kernel: str, initrds: Sequence[str], arguments: str, title: str) -> str:
    """Paths. Raises `ArgumentsInvalid`."""
    words = " ".join(map(_quoted, words_of(arguments)))
    lines = [f"set timeout=0\necho '{shown(title)}'\nif linux {_quoted(kernel)} {words}; then\n"]
    if initrds:
        lines.append(f"  if initrd {' '.join(map(_quoted, initrds))}; then boot; fi\n")
    else:
        lines.append("  boot\n")
    return "".join([*lines, "fi\necho 'not loaded'\nsleep 10\n", _DISK])


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"
