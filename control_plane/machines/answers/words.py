"""The letters that each kind of value may have; pure.

Invariant: whatever passes one of these is one line of printable text, and means nothing but itself to a shell, to
Kickstart and to Preseed, but for the free texts (`is_text`), which are always quoted.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from ipaddress import ip_address
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# crypt(5): sha512-crypt and yescrypt, whose parts have fixed alphabets and lengths.
_SHA512 = re.compile(r"\$6\$(?:rounds=[1-9][0-9]{3,8}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}")
_YESCRYPT = re.compile(r"\$y\$[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{1,86}\$[./A-Za-z0-9]{43}")
_KEY_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
_ARMOUR = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n(?:[A-Za-z]+: [ -~]{0,200}\n)*\n(?:[A-Za-z0-9+/=]{1,76}\n)+"
    r"-----END PGP PUBLIC KEY BLOCK-----\n?"
)
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~+/-]{0,500})?"
)


def _matcher(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


is_host_name = _matcher(_LABEL)
is_domain = _matcher(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
is_identifier = _matcher(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
is_serial = _matcher(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,63}")
is_wwn = _matcher(r"(?:0x|eui\.|naa\.|nvme\.)?[0-9A-Fa-f][0-9A-Fa-f.-]{7,127}")
is_mac = _matcher(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
is_architecture = _matcher(r"x86_64|aarch64")
is_locale = _matcher(r"(?:C|POSIX|[a-z]{2,3}(?:_[A-Z]{2})?)(?:\.[A-Za-z0-9-]{1,16})?(?:@[a-z]{1,16})?")
is_keyboard = _matcher(r"[a-z][a-z0-9_-]{0,31}")
is_user_name = _matcher(r"[a-z_][a-z0-9_-]{0,30}")
is_interface_name = _matcher(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
is_variable_name = _matcher(r"[a-z][a-z0-9_]{0,63}")
is_package = _matcher(r"[A-Za-z0-9][A-Za-z0-9.+:_-]{0,127}")
is_rpm_choice = _matcher(r"-?(?:@\^?)?[A-Za-z0-9][A-Za-z0-9.+:_-]{0,127}")
is_suite = _matcher(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
is_label = _matcher(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,11}")  # XFS takes 12 letters
is_volume_group = _matcher(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
is_kernel_argument = _matcher(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(?:=[A-Za-z0-9_.,:/@+=-]{0,255})?")
_is_path = _matcher(r"/[A-Za-z0-9._~+/-]{1,500}")
_is_device = _matcher(r"/dev/[A-Za-z0-9][A-Za-z0-9._:+/-]{0,254}")
_is_mount = _matcher(r"/(?:[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*){0,7})?")


def is_yescrypt(value: str) -> bool:
    return _YESCRYPT.fullmatch(value) is not None


def is_password_hash(value: str) -> bool:
    return _SHA512.fullmatch(value) is not None or is_yescrypt(value)


def is_text(value: str) -> bool:
    """Free text of one line: printable, also beyond ASCII. U+0085, U+2028 and their kind end lines and are not."""
    return len(value) <= 4096 and value.isprintable()


def is_full_name(value: str) -> bool:
    """The comment of passwd(5): `:` and `,` separate there, and `&` stands for the user's name."""
    return is_text(value) and len(value) <= 128 and not set(value) & set(":,&\\=")


def is_script(value: str) -> bool:
    """Many lines, of which none hides: tabs and line ends are the only control characters."""
    return len(value) <= 65536 and value.replace("\n", "").replace("\t", "").isprintable()


def is_public_key(value: str) -> bool:
    """RFC 9580, 6.2: armoured; nothing stands before or after it."""
    return len(value) <= 32768 and _ARMOUR.fullmatch(value) is not None


def is_ssh_key(value: str) -> bool:
    """`TYPE BASE64 [COMMENT]` whose inside says the same type; options in front ("command=...") are refused."""
    kind, _, rest = value.partition(" ")
    body, _, _comment = rest.partition(" ")
    if kind not in _KEY_TYPES or not is_text(value):
        return False
    try:
        inside = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return False
    length = int.from_bytes(inside[:4], "big")
    return len(inside) > 4 + length and inside[4 : 4 + length] == kind.encode()


def is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return "%" not in value


def is_server(value: str) -> bool:
    return is_address(value) or is_domain(value)


def is_time_zone(value: str) -> bool:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def is_location(value: str) -> bool:
    """A path of the regional or a URL, without a step up."""
    return (_is_path(value) or _URL.fullmatch(value) is not None) and ".." not in value.split("/")


def is_device(value: str) -> bool:
    return _is_device(value) and ".." not in value.split("/")


def is_mount(value: str) -> bool:
    return value == "swap" or (_is_mount(value) and ".." not in value.split("/"))
