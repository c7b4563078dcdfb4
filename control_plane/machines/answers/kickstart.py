"""Kickstart for Rocky, CentOS and CentOS Stream; pure. Source: the Kickstart syntax reference of Anaconda.

Invariant: every word that is not the renderer's own is quoted as the installer splits lines (as Python's shlex does),
or passed a rule that leaves nothing to quote.
"""

from __future__ import annotations

from ipaddress import ip_network

from control_plane.machines.answers.failures import InstallationInvalid, Problem
from control_plane.machines.answers.finishing import FINISH, fetch, fetch_and_run
from control_plane.machines.answers.kickstart_storage import storage
from control_plane.machines.answers.late import Late
from control_plane.machines.answers.model import Bond, Ending, Family, Installation, Interface, User
from control_plane.machines.answers.network_rules import addresses_of, has_address
from control_plane.machines.answers.quoting import Quoted, kickstart

DOCUMENT = "ks.cfg"


def parts(it: Installation, late: Late) -> dict[str, Quoted]:
    """The sections of the document, by the names that templates use."""
    commands, pre = storage(it, late)
    made = {
        "installer": ["text", "firstboot --disabled", it.ending.value if it.ending is Ending.REBOOT else "poweroff"],
        "source": _source(it, late),
        "locale": _locale(it),
        "network": _network(it),
        "accounts": _accounts(it),
        "services": ["selinux --enforcing", "firewall --enabled --ssh"],
        "storage": [commands],
        "packages": ["%packages", *_packages(it), "%end"],
        "pre": [pre] if pre else [],
        "post": _post(late),
    }
    return {name: Quoted("\n".join(lines)) for name, lines in made.items()}


def boot_arguments(it: Installation, late: Late) -> tuple[str, ...]:
    repository = (f"inst.repo={late.at(it.source)}",) if it.source else ()
    return (f"inst.ks={late.document(DOCUMENT)}", *repository, "inst.text", "ip=dhcp")


def _source(it: Installation, late: Late) -> list[str]:
    lines = [f"url --url={late.at(it.source)}"] if it.source else []
    return lines + [f"repo --name={one.name} --baseurl={late.at(one.location)} --install" for one in it.repositories]


def _locale(it: Installation) -> list[str]:
    lines = [f"lang {it.locale}", f"keyboard --vckeymap={it.keyboard}"]
    servers = ",".join(it.ntp_servers)
    if it.system.version == "9":
        lines.append(f"timezone {it.timezone} --utc")
        return lines + [f"timesource --ntp-server={server}" for server in it.ntp_servers]
    return [*lines, f"timezone {it.timezone} --utc" + (f" --ntpservers={servers}" if servers else "")]


def _host(it: Installation) -> str:
    return f"{it.hostname}.{it.domain}" if it.domain else it.hostname


def _network(it: Installation) -> list[str]:
    interfaces = it.network.interfaces
    if it.network.search and it.system.version != "9":
        raise InstallationInvalid(
            [Problem("network.search", f"Kickstart of {it.system.family.value} {it.system.version} cannot set it")]
        )
    if not interfaces:
        return [f"network --bootproto=dhcp --device=link --activate --onboot=yes{_names(it)} --hostname={_host(it)}"]
    parents = {one.vlan.parent for one in interfaces if one.vlan}
    members = {name for one in interfaces if one.bond for name in one.bond.members}
    # What lies below a VLAN and has no addresses of its own is made by the VLAN's line; a bond by that of its first.
    silent = {one.name: one.bond for one in interfaces if one.name in parents and not has_address(one)}
    told: set[str] = set()
    lines = []
    for one in interfaces:
        if one.name in members or one.name in silent:
            continue
        bond = one.bond
        if one.vlan and one.vlan.parent not in told:
            bond = silent.get(one.vlan.parent)
            told.add(one.vlan.parent)
        lines.append(_line(it, one, bond, named=one.name in parents))
    return [*lines, f"network --hostname={_host(it)}"]


def _names(it: Installation) -> str:
    words = [f" --nameserver={','.join(it.network.nameservers)}"] if it.network.nameservers else []
    if it.network.search:
        words.append(f" --ipv4-dns-search={','.join(it.network.search)}")
    return "".join(words)


def _line(it: Installation, one: Interface, bond: Bond | None, *, named: bool) -> str:
    device = one.vlan.parent if one.vlan else one.name if named else one.mac or one.name
    words = [f"network --device={device}", "--onboot=yes", "--activate", *_ipv4(one), *_ipv6(one)]
    if one.vlan:
        words += [f"--vlanid={one.vlan.number}", f"--interfacename={one.name}"]
    if bond:
        words.append(f"--bondslaves={','.join(bond.members)}")
        words.append(f"--bondopts=mode={bond.mode.value},miimon={bond.monitor_milliseconds}")
    if one.mtu is not None:
        words.append(f"--mtu={one.mtu}")
    return " ".join(words) + _names(it)


def _ipv4(one: Interface) -> list[str]:
    four, six = addresses_of(one)
    if len(four) > 1 or len(six) > 1:
        raise InstallationInvalid(
            [Problem(f"network.interfaces ({one.name})", "Kickstart takes one IPv4 and one IPv6 address an interface")]
        )
    if one.dhcp4:
        return ["--bootproto=dhcp"]
    if not four:
        return ["--noipv4"]
    netmask = ip_network(four[0].network).netmask
    words = [f"--bootproto=static --ip={four[0].ip} --netmask={netmask}"]
    return [*words, f"--gateway={one.gateway4}"] if one.gateway4 else [*words, "--nodefroute"]


def _ipv6(one: Interface) -> list[str]:
    _, six = addresses_of(one)
    if one.dhcp6:
        return ["--ipv6=dhcp"]
    if not six:
        return ["--noipv6"]
    return [f"--ipv6={six[0]}", *([f"--ipv6gateway={one.gateway6}"] if one.gateway6 else [])]


def _accounts(it: Installation) -> list[str]:
    root = f"rootpw --iscrypted {kickstart(it.root_password_hash)}" if it.root_password_hash else "rootpw --lock"
    return [root, *(_user(user) for user in it.users)]


def _user(user: User) -> str:
    words = [f"user --name={user.name}"]
    if user.full_name:
        words.append(f"--gecos={kickstart(user.full_name)}")
    if user.administrator:
        words.append("--groups=wheel")
    words.append(f"--iscrypted --password={kickstart(user.password_hash)}" if user.password_hash else "--lock")
    return " ".join(words)


def _packages(it: Installation) -> list[str]:
    base = "@core" if it.system.family is Family.CENTOS else "@^minimal-environment"
    return list(dict.fromkeys([base, "curl", *it.packages]))


def _post(late: Late) -> list[str]:
    """Outside of the new system, where Anaconda's network, curl and name servers are."""
    root = "/mnt/sysimage"
    return [
        "%post --nochroot --interpreter=/bin/sh --erroronfail",
        fetch_and_run(late, root, f"chroot {root}"),
        "%end",
        "%onerror --interpreter=/bin/sh",
        f"{fetch(late)} && sh /tmp/{FINISH} failed",
        "%end",
    ]
