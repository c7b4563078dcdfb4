"""Preseed for Debian; pure. Source: the preseeding appendix of Debian's installation guide (11 and 12).

Invariant: a line is `owner question type value`, and values are one line; nothing is left for the installer to ask.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from common.late_words import LateWord
from control_plane.machines.answers.finishing import FINISH, fetch, fetch_and_run
from control_plane.machines.answers.interfaces_file import packages_of
from control_plane.machines.answers.late import Late
from control_plane.machines.answers.model import Ending, Installation
from control_plane.machines.answers.preseed_storage import DISKS, storage
from control_plane.machines.answers.quoting import Quoted, preseed

DOCUMENT = "preseed.cfg"
_SUITES = {"11": "bullseye", "12": "bookworm"}


def parts(it: Installation, late: Late) -> dict[str, Quoted]:
    """The sections of the document, by the names that templates use."""
    made = {
        "locale": _locale(it),
        "network": _network(it),
        "source": _source(it, late),
        "accounts": _accounts(it),
        "storage": [*storage(it), _early(late)],
        "packages": _packages(it),
        "ending": _ending(it, late),
    }
    return {name: Quoted("\n".join(lines)) for name, lines in made.items()}


def boot_arguments(it: Installation, late: Late) -> tuple[str, ...]:
    """The host name stands here as well: the network is set up before the document can be fetched."""
    return (
        "auto=true",
        "priority=critical",
        f"url={late.document(DOCUMENT)}",
        "interface=auto",
        f"hostname={it.hostname}",
        f"domain={it.domain or 'unassigned-domain'}",
        f"locale={it.locale}",
        f"keymap={it.keyboard}",
    )


def key_document(index: int) -> str:
    return f"repository-{index}.asc"


def _locale(it: Installation) -> list[str]:
    lines = [
        f"d-i debian-installer/locale string {it.locale}",
        f"d-i keyboard-configuration/xkb-keymap select {it.keyboard}",
        "d-i clock-setup/utc boolean true",
        f"d-i time/zone string {it.timezone}",
        f"d-i clock-setup/ntp boolean {'true' if it.ntp_servers else 'false'}",
    ]
    return [*lines, f"d-i clock-setup/ntp-server string {it.ntp_servers[0]}"] if it.ntp_servers else lines


def _network(it: Installation) -> list[str]:
    """The installer's own; the system's is written at the end (interfaces_file)."""
    return [
        "d-i netcfg/choose_interface select auto",
        f"d-i netcfg/get_hostname string {it.hostname}",
        f"d-i netcfg/hostname string {it.hostname}",
        f"d-i netcfg/get_domain string {it.domain or 'unassigned-domain'}",
        "d-i hw-detect/load_firmware boolean true",
    ]


def _source(it: Installation, late: Late) -> list[str]:
    scheme, host, directory = "http", "deb.debian.org", "/debian"
    if it.source.startswith("/"):
        scheme, host, directory = late.word(LateWord.SCHEME), late.word(LateWord.HOST), it.source
    elif it.source:
        url = urlsplit(it.source)
        scheme, host, directory = url.scheme, url.netloc, url.path or "/"
    lines = [
        "d-i mirror/country string manual",
        f"d-i mirror/protocol string {scheme}",
        *(
            f"d-i mirror/{protocol}/{question} string{value}"
            for protocol in ("http", "https")
            for question, value in (("hostname", f" {host}"), ("directory", f" {directory}"), ("proxy", ""))
        ),
        f"d-i mirror/suite string {_SUITES[it.system.version]}",
        # What is a mirror at the regional has what was mirrored, and machines need not reach anything else.
        f"d-i apt-setup/services-select multiselect{'' if it.source else ' security, updates'}",
    ]
    for index, one in enumerate(it.repositories):
        components = "".join(f" {component}" for component in one.components)
        lines.append(f"d-i apt-setup/local{index}/repository string {late.at(one.location)} {one.suite}{components}")
        lines.append(f"d-i apt-setup/local{index}/comment string {one.name}")
        if one.key:
            lines.append(f"d-i apt-setup/local{index}/key string {late.document(key_document(index))}")
    return lines


def _accounts(it: Installation) -> list[str]:
    """Only root's; Debian's installer makes one user at most, so `finish.sh` makes all. `!` locks."""
    return [
        "d-i passwd/root-login boolean true",
        f"d-i passwd/root-password-crypted password {preseed(it.root_password_hash or '!')}",
        "d-i passwd/make-user boolean false",
    ]


def _early(late: Late) -> str:
    script = f"/tmp/{DISKS}"  # noqa: S108  the installer's own /tmp
    chosen = f"wget -q -O {script} {late.document(DISKS)} && sh {script}"
    return f"d-i partman/early_command string {chosen} || {{ {fetch(late)} && sh /tmp/{FINISH} failed; }}"


def _packages(it: Installation) -> list[str]:
    wanted = dict.fromkeys(["openssh-server", "sudo", "curl", *packages_of(it.network), *it.packages])
    lines = [
        "tasksel tasksel/first multiselect standard",
        f"d-i pkgsel/include string {' '.join(wanted)}",
        "d-i pkgsel/upgrade select none",
        "d-i pkgsel/update-policy select none",
        "popularity-contest popularity-contest/participate boolean false",
        "d-i grub-installer/only_debian boolean true",
        "d-i grub-installer/with_other_os boolean false",
        "d-i grub-installer/force-efi-extra-removable boolean true",
    ]
    if it.kernel_arguments:
        lines.append(f"d-i debian-installer/add-kernel-opts string {' '.join(it.kernel_arguments)}")
    return lines


def _ending(it: Installation, late: Late) -> list[str]:
    lines = [
        f"d-i preseed/late_command string {fetch_and_run(late, '/target', 'in-target --pass-stdout')}",
        "d-i finish-install/reboot_in_progress note",
        "d-i cdrom-detect/eject boolean false",
    ]
    return [*lines, "d-i debian-installer/exit/poweroff boolean true"] if it.ending is Ending.POWER_OFF else lines
