"""`tenant/repository[:tag][@digest]`: parse, check and print; pure.

The grammar is the distribution specification's ("Pulling manifests"): path components of lower-case letters and
digits separated by one `.`, one or two `_` or any number of `-`; tags of up to 128 characters. The first component is
the tenant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from common.digest import Digest
from common.errors import Invalid

MAX_NAME_LENGTH = 255
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


class NameInvalid(Invalid):
    code = "name_invalid"


class TagInvalid(Invalid):
    code = "tag_invalid"


def check_repository_name(name: str) -> str:
    """`name` itself if it is `tenant/repository`; raises `NameInvalid` otherwise."""
    if len(name) > MAX_NAME_LENGTH:
        raise NameInvalid(
            f"the repository name has {len(name)} characters", action=f"use at most {MAX_NAME_LENGTH}", length=len(name)
        )
    if not _NAME.fullmatch(name) or "/" not in name:
        raise NameInvalid(
            f"{name[:80]!r} is not a repository name",
            action="use tenant/repository in lower-case letters, digits and single separators . _ -",
        )
    return name


def check_tag(tag: str) -> str:
    """`tag` itself; raises `TagInvalid` if it is not a tag."""
    if not _TAG.fullmatch(tag):
        raise TagInvalid(
            f"{tag[:80]!r} is not a tag",
            action="use up to 128 letters, digits, _ . - and start with a letter, digit or _",
        )
    return tag


@dataclass(frozen=True, slots=True)
class Reference:
    """One image as a person names it. `repository` includes the tenant; `tag` or `digest` may be absent."""

    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @property
    def tenant(self) -> str:
        return self.repository.partition("/")[0]

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises `NameInvalid`, `TagInvalid` or `DigestInvalid`. Without tag and digest the tag is `latest`."""
        rest, at, digest = text.partition("@")
        head, colon, tag = rest.rpartition(":")
        name, tag_text = (head, tag) if colon else (rest, None)
        parsed = Digest.parse(digest) if at else None
        if tag_text is None and parsed is None:
            tag_text = "latest"
        return cls(check_repository_name(name), check_tag(tag_text) if tag_text is not None else None, parsed)
