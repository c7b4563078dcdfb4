"""What an installation is to become, as the renderers take it: frozen, pure, free of any format.

Invariant: nothing here is believed before `rules.checked` saw it; values are plain texts as people wrote them.
Passwords exist as hashes only, and no secret is in a `repr`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Family(StrEnum):
    ROCKY = "rocky"
    CENTOS = "centos"
    CENTOS_STREAM = "centos-stream"
    DEBIAN = "debian"
    UBUNTU = "ubuntu"


class Format(StrEnum):
    KICKSTART = "kickstart"
    PRESEED = "preseed"
    AUTOINSTALL = "autoinstall"
    CLOUD_INIT = "cloud-init"  # NoCloud seed beside an image that is streamed to the disk


@dataclass(frozen=True, slots=True)
class System:
    """`version` as its makers write it: "9", "7", "12", "22.04"."""

    family: Family
    version: str


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class User:
    """`password_hash`: crypt(5), sha512-crypt or yescrypt; None: the password is locked. `administrator`: may sudo,
    without a password where the account has none.
    """

    name: str
    full_name: str = ""
    password_hash: str | None = field(default=None, repr=False)
    ssh_keys: tuple[str, ...] = ()
    administrator: bool = False


class Layout(StrEnum):
    AUTOMATIC = "automatic"  # the installer's own choice on one disk; partitions are not given
    PLAIN = "plain"
    LVM = "lvm"
    RAID1 = "raid1"  # over exactly two disks


class Filesystem(StrEnum):
    EXT4 = "ext4"
    XFS = "xfs"


@dataclass(frozen=True, slots=True)
class Disk:
    """Chosen by the first that is given: path ("/dev/sda", "/dev/disk/by-id/..."), serial, WWN. None of them: the
    smallest fixed disk of at least 8 GiB.
    """

    path: str = ""
    serial: str = ""
    wwn: str = ""


@dataclass(frozen=True, slots=True)
class Partition:
    """`mount`: a directory, or "swap". Exactly one of a layout may `grow`, from `mebibytes` to all that is left.
    What the firmware needs (ESP, BIOS boot) is never given: it is made as the firmware demands.
    """

    mount: str
    mebibytes: int
    grow: bool = False
    filesystem: Filesystem | None = None  # None: that of the storage
    label: str = ""


@dataclass(frozen=True, slots=True)
class Storage:
    """No `partitions`: /boot, swap and a root that takes the rest. `encrypted` is always refused: an unattended
    installer would have to be told the passphrase, and it would lie beside the lock.
    """

    layout: Layout = Layout.AUTOMATIC
    disks: tuple[Disk, ...] = (Disk(),)
    partitions: tuple[Partition, ...] = ()
    filesystem: Filesystem = Filesystem.EXT4
    volume_group: str = "system"
    encrypted: bool = False


class BondMode(StrEnum):
    ACTIVE_BACKUP = "active-backup"
    LACP = "802.3ad"
    BALANCE_RR = "balance-rr"
    BALANCE_XOR = "balance-xor"
    BROADCAST = "broadcast"
    BALANCE_TLB = "balance-tlb"
    BALANCE_ALB = "balance-alb"


@dataclass(frozen=True, slots=True)
class Bond:
    """`members` are names of interfaces of the same network that have no addresses of their own."""

    members: tuple[str, ...]
    mode: BondMode = BondMode.ACTIVE_BACKUP
    monitor_milliseconds: int = 100


@dataclass(frozen=True, slots=True)
class Vlan:
    """`parent` is the name of an interface of the same network."""

    parent: str
    number: int


@dataclass(frozen=True, slots=True)
class Interface:
    """A network card, bond or VLAN. `mac` names the card, lower case with colons; without it `name` must be what the
    system calls it. `addresses` carry their prefix ("192.0.2.5/24", "2001:db8::5/64").
    """

    name: str
    mac: str = ""
    dhcp4: bool = False
    dhcp6: bool = False
    addresses: tuple[str, ...] = ()
    gateway4: str = ""
    gateway6: str = ""
    mtu: int | None = None
    bond: Bond | None = None
    vlan: Vlan | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """No `interfaces`: DHCP on what is plugged in."""

    interfaces: tuple[Interface, ...] = ()
    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Repository:
    """`location` as `Installation.source`. `suite`, `components` and `key` are of Debian and Ubuntu alone; `key`: an
    armoured OpenPGP public key, empty: what the system trusts already.
    """

    name: str
    location: str
    suite: str = ""
    components: tuple[str, ...] = ()
    key: str = ""


class Ending(StrEnum):
    REBOOT = "reboot"
    POWER_OFF = "poweroff"


@dataclass(frozen=True, slots=True)
class Template:
    """An operator's own text in place of the built-in one; `name` for messages."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Installation:
    """`source`: where the installer takes the system from: a path of the regional ("/repos/rocky/9/BaseOS/x86_64/os",
    "/repos/debian/12") or a URL; empty: what the installer uses by itself (for an image: nothing).
    `post_script`: /bin/sh in the installed system as root, with LONGSHORE_URL, LONGSHORE_DEVICE and LONGSHORE_TOKEN.
    `operation`: the id under which the regional's device API waits for the end of the installation.
    `kernel_arguments`: of the installed system, not for images, which have their own; nor have images another layout
    than the automatic one. `variables` and `secrets` are for templates; secrets are never shown.
    """

    machine_id: str
    hostname: str
    system: System
    domain: str = ""
    serial: str = ""
    mac: str = ""
    architecture: str = "x86_64"
    firmware: Firmware = Firmware.BIOS
    locale: str = "en_US.UTF-8"
    keyboard: str = "us"
    timezone: str = "UTC"
    ntp_servers: tuple[str, ...] = ()
    root_password_hash: str | None = field(default=None, repr=False)
    root_ssh_keys: tuple[str, ...] = ()
    users: tuple[User, ...] = ()
    storage: Storage = Storage()
    network: Network = Network()
    source: str = ""
    repositories: tuple[Repository, ...] = ()
    packages: tuple[str, ...] = ()
    post_script: str = field(default="", repr=False)
    operation: str = ""
    kernel_arguments: tuple[str, ...] = ()
    ending: Ending = Ending.REBOOT
    template: Template | None = field(default=None, repr=False)
    variables: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Document:
    """One file that the machine fetches by `name` (one path component). `text` has late placeholders
    (common/late_words.py) under the nonce that it was rendered with.
    """

    name: str
    media_type: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answers:
    """`boot_arguments`: what the installer's kernel needs to find its documents, with late placeholders too; empty for
    images."""

    format: Format
    documents: tuple[Document, ...]
    boot_arguments: tuple[str, ...] = ()
