"""Whether an installation may be rendered at all: each field's rule, and what fields mean together; pure.

Invariant: `checked` gives back what it was given or raises with everything that is wrong; renderers call nothing else
before they write a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from control_plane.machines.answers import words
from control_plane.machines.answers.failures import InstallationInvalid, Problem
from control_plane.machines.answers.model import Family, Format, Installation, Layout, Repository, User
from control_plane.machines.answers.network_rules import network_problems
from control_plane.machines.answers.storage_rules import storage_problems

VERSIONS: dict[Family, tuple[str, ...]] = {
    Family.ROCKY: ("8", "9"),
    Family.CENTOS: ("7",),
    Family.CENTOS_STREAM: ("9",),
    Family.DEBIAN: ("11", "12"),
    Family.UBUNTU: ("20.04", "22.04", "24.04"),
}
_FORMATS: dict[Family, Format] = {
    Family.ROCKY: Format.KICKSTART,
    Family.CENTOS: Format.KICKSTART,
    Family.CENTOS_STREAM: Format.KICKSTART,
    Family.DEBIAN: Format.PRESEED,
    Family.UBUNTU: Format.AUTOINSTALL,
}
# More of anything than any machine has; they bound the work of a rendering.
_MOST_USERS, _MOST_KEYS, _MOST_PACKAGES, _MOST_OTHERS = 64, 32, 512, 64


def format_for(installation: Installation) -> Format:
    """What the installer of this system reads."""
    return _FORMATS[installation.system.family]


def checked(installation: Installation, form: Format) -> Installation:
    """Raises InstallationInvalid with every problem."""
    problems = [
        *_machine_problems(installation),
        *_account_problems(installation),
        *_software_problems(installation),
        *storage_problems(installation.storage),
        *network_problems(installation.network),
        *_system_problems(installation, form),
    ]
    if problems:
        raise InstallationInvalid(problems)
    return installation


def _each(where: str, values: Sequence[str], rule: Callable[[str], bool], what: str, most: int) -> Iterator[Problem]:
    if len(values) > most:
        yield Problem(where, f"at most {most}")
        return
    for index, value in enumerate(values):
        if not rule(value):
            yield Problem(f"{where}[{index}]", what)


def _if_wrong(
    where: str, value: str, rule: Callable[[str], bool], what: str, *, optional: bool = False
) -> list[Problem]:
    return [] if (optional and not value) or rule(value) else [Problem(where, what)]


def _machine_problems(it: Installation) -> Iterator[Problem]:
    yield from _if_wrong("machine_id", it.machine_id, words.is_identifier, "letters, digits, . _ and -, at most 64")
    yield from _if_wrong("hostname", it.hostname, words.is_host_name, "one DNS label: letters, digits and hyphens")
    yield from _if_wrong("domain", it.domain, words.is_domain, "a DNS name", optional=True)
    yield from _if_wrong("serial", it.serial, words.is_text, "one line of printable text", optional=True)
    yield from _if_wrong("mac", it.mac, words.is_mac, "six hexadecimal bytes with colons", optional=True)
    yield from _if_wrong("architecture", it.architecture, words.is_architecture, "x86_64 or aarch64")
    yield from _if_wrong("locale", it.locale, words.is_locale, "as in en_US.UTF-8")
    yield from _if_wrong("keyboard", it.keyboard, words.is_keyboard, "a keyboard layout such as us or de-latin1")
    yield from _if_wrong("timezone", it.timezone, words.is_time_zone, "not a time zone that is known")
    yield from _if_wrong("operation", it.operation, words.is_identifier, "letters, digits, . _ and -", optional=True)
    yield from _each("ntp_servers", it.ntp_servers, words.is_server, "a DNS name or an IP address", _MOST_OTHERS)


def _account_problems(it: Installation) -> Iterator[Problem]:
    if it.root_password_hash is not None:
        yield from _hash_problems("root_password_hash", it.root_password_hash, it)
    yield from _each("root_ssh_keys", it.root_ssh_keys, words.is_ssh_key, _KEY_RULE, _MOST_KEYS)
    if len(it.users) > _MOST_USERS:
        yield Problem("users", f"at most {_MOST_USERS}")
        return
    names = [user.name for user in it.users]
    for index, user in enumerate(it.users):
        if names.index(user.name) != index:
            yield Problem(f"users[{index}].name", "there twice")
        yield from _user_problems(f"users[{index}]", user, it)


_KEY_RULE = "a public key as in authorized_keys, without options in front"


def _user_problems(where: str, user: User, it: Installation) -> Iterator[Problem]:
    if not words.is_user_name(user.name) or user.name == "root":
        yield Problem(
            f"{where}.name", "lower case letters, digits, _ and -, at most 31, and not root, which has fields"
        )
    if not words.is_full_name(user.full_name):
        yield Problem(f"{where}.full_name", "printable, at most 128, without : , & = and backslash")
    if user.password_hash is not None:
        yield from _hash_problems(f"{where}.password_hash", user.password_hash, it)
    yield from _each(f"{where}.ssh_keys", user.ssh_keys, words.is_ssh_key, _KEY_RULE, _MOST_KEYS)


def _hash_problems(where: str, value: str, it: Installation) -> Iterator[Problem]:
    if not words.is_password_hash(value):
        yield Problem(where, "a crypt hash that starts with $6$ (sha512-crypt) or $y$ (yescrypt), never a password")
    elif words.is_yescrypt(value) and (it.system.family, it.system.version) == (Family.CENTOS, "7"):
        yield Problem(where, "CentOS 7 does not know yescrypt; use sha512-crypt ($6$)")


def _software_problems(it: Installation) -> Iterator[Problem]:
    rpm = _FORMATS[it.system.family] is Format.KICKSTART
    yield from _each(
        "packages",
        it.packages,
        words.is_rpm_choice if rpm else words.is_package,
        "not a name of a package",
        _MOST_PACKAGES,
    )
    yield from _if_wrong("source", it.source, words.is_location, _LOCATION_RULE, optional=True)
    if len(it.repositories) > _MOST_OTHERS:
        yield Problem("repositories", f"at most {_MOST_OTHERS}")
        return
    for index, repository in enumerate(it.repositories):
        yield from _repository_problems(f"repositories[{index}]", repository, rpm=rpm)
    yield from _each(
        "kernel_arguments", it.kernel_arguments, words.is_kernel_argument, "as in console=ttyS0,115200", _MOST_OTHERS
    )
    if not words.is_script(it.post_script):
        yield Problem("post_script", "at most 64 KiB of text without control characters")
    yield from _variable_problems("variables", it.variables)
    yield from _variable_problems("secrets", it.secrets)


_LOCATION_RULE = "a path such as /repos/rocky/9/BaseOS/x86_64/os, or a URL of letters, digits, . _ ~ + and -"


def _repository_problems(where: str, repository: Repository, *, rpm: bool) -> Iterator[Problem]:
    yield from _if_wrong(f"{where}.name", repository.name, words.is_identifier, "letters, digits, . _ and -")
    yield from _if_wrong(f"{where}.location", repository.location, words.is_location, _LOCATION_RULE)
    yield from _if_wrong(f"{where}.key", repository.key, words.is_public_key, "an armoured OpenPGP key", optional=True)
    if rpm and (repository.suite or repository.components or repository.key):
        yield Problem(where, "only repositories of Debian and Ubuntu have suites, components and a key here")
    elif not rpm:
        yield from _if_wrong(f"{where}.suite", repository.suite, words.is_suite, "a suite such as bookworm")
        yield from _each(f"{where}.components", repository.components, words.is_suite, "as in main", _MOST_OTHERS)


def _variable_problems(where: str, pairs: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    pairs = tuple(pairs)
    if len(pairs) > _MOST_OTHERS:
        yield Problem(where, f"at most {_MOST_OTHERS}")
    for name, value in pairs[:_MOST_OTHERS]:
        if not words.is_variable_name(name):
            yield Problem(where, "names are lower case letters, digits and _, at most 64")
        elif not words.is_text(value):
            yield Problem(f"{where}.{name}", "one line of printable text, at most 4096")


def _system_problems(it: Installation, form: Format) -> Iterator[Problem]:
    if it.system.version not in VERSIONS[it.system.family]:
        known = ", ".join(VERSIONS[it.system.family])
        yield Problem("system.version", f"of {it.system.family.value} there are {known}")
    if form is Format.CLOUD_INIT:
        if it.kernel_arguments:
            yield Problem("kernel_arguments", "an image has its own; put them into the image")
        if it.storage.layout is not Layout.AUTOMATIC:
            yield Problem("storage.layout", "an image brings its own; only automatic fits")
    elif form is not format_for(it):
        yield Problem("system", f"{it.system.family.value} is not installed with {form.value}")
    elif (
        form is Format.PRESEED and it.storage.layout is Layout.RAID1 and any(one.label for one in it.storage.partitions)
    ):
        yield Problem("storage.partitions", "Debian's installer cannot label what lies on an array")
