"""From the path of a URL to a file inside one directory, or to a clear refusal.

Invariant: what `resolve` returns exists and lies inside the root after every symbolic link was followed. Links that
stay inside are welcome (package mirrors are full of them); the root itself may be a link: the operator chose it.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from common.errors import Denied, Invalid, NotFound

# What begins with a dot is on its way (rsync writes `.name.Xy12Ab` and renames it) or nobody's business, but for these,
# which installers ask for.
_SHOWN_DOTS = frozenset({".treeinfo", ".discinfo", ".composeinfo", ".productinfo", ".disk"})
_ON_ITS_WAY = re.compile(r".*\.(?:part|partial|filepart|tmp)", re.ASCII | re.DOTALL)


class PathInvalid(Invalid):
    code = "path_invalid"


class FileMissing(NotFound):
    code = "file_not_found"


class FileForbidden(Denied):
    code = "file_forbidden"


def segments(encoded: str) -> tuple[str, ...]:
    """The names in a percent-encoded path; repeated slashes count once.

    Raises `PathInvalid` for NUL and line breaks, `FileMissing` for `.` and `..` in any spelling: decoding happens once,
    before the check, so an encoded dot is a dot and a doubly encoded one is a strange file name.
    """
    decoded = unquote(encoded, errors="surrogateescape")
    if any(character in decoded for character in "\0\r\n"):
        raise PathInvalid("the path holds a NUL or a line break", action="use the paths that the listing gives")
    names = tuple(name for name in decoded.split("/") if name)
    if any(name in (".", "..") for name in names):
        raise FileMissing("there is no such file", action="use paths without . and ..")
    return names


def hidden(name: str) -> bool:
    """Whether one name of a path is neither served nor listed."""
    return (name.startswith(".") and name not in _SHOWN_DOTS) or _ON_ITS_WAY.fullmatch(name) is not None


def resolve(root: Path, names: tuple[str, ...]) -> Path:
    """The real path. Raises `FileMissing`, also for what lies outside the root, and `FileForbidden`. Blocking."""
    real_root = root.resolve()
    try:
        real = real_root.joinpath(*names).resolve(strict=True)
    except PermissionError:
        raise forbidden() from None
    except (OSError, RuntimeError, ValueError):  # missing, a name too long, a loop of links, an embedded NUL
        raise missing() from None
    if not real.is_relative_to(real_root):
        raise missing()
    return real


def missing() -> FileMissing:
    return FileMissing("there is no such file", action="see /api/v1/files/static and /api/v1/files/repos")


def forbidden() -> FileForbidden:
    return FileForbidden(
        "the regional may not read this file", action="mend its permissions: chmod -R a+rX on the static root"
    )
