"""Placeholders in documents that the centre renders for what only the regional knows, and their filling; pure.

Invariant: only the renderer can place them. Each rendering takes a nonce that nobody knew when the values that go into
the document were set, so no host name and no label becomes a token. What fills them is held to letters that are plain
in a shell, a URL, Kickstart, Preseed, JSON and a quoted YAML text alike: filling never changes what a document means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from common.errors import Invalid


class LateWord(StrEnum):
    BASE_URL = "url"  # of the regional's HTTP: "http://192.0.2.1:8081"
    SCHEME = "scheme"  # of it: "http"
    HOST = "host"  # its host and port: "192.0.2.1:8081"
    DOCUMENTS = "documents"  # URL under which this machine's documents lie by name
    DEVICE = "device"  # URL of the device API for this machine
    TOKEN = "token"  # noqa: S105  its one-time token


class LateWordInvalid(Invalid):
    code = "late_word_invalid"


_NONCE = re.compile(r"[0-9a-f]{32}")
_URL = re.compile(
    r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]{0,500})?"
)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,256}")


@dataclass(frozen=True, slots=True)
class LateFacts:
    """URLs without a slash at the end; `documents_url` and `device_url` may hold the token and are as secret.

    Raises LateWordInvalid for what could mean more than itself in some document.
    """

    base_url: str
    documents_url: str = field(repr=False)
    device_url: str = field(repr=False)
    token: str = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("base_url", "documents_url", "device_url"):
            value = getattr(self, name)
            if not _URL.fullmatch(value) or value.endswith("/"):
                raise LateWordInvalid(
                    f"the {name.replace('_', ' ')} cannot stand in installers' documents",
                    action="use http or https, a host, a port, and a path of letters, digits, . _ ~ and -",
                )
        if not _TOKEN.fullmatch(self.token):
            raise LateWordInvalid("the token cannot stand in installers' documents", action="use base64url, 16 to 256")


def placeholder(nonce: str, word: LateWord) -> str:
    """Letters, digits and hyphens. `nonce`: 32 random hexadecimal digits, of one rendering."""
    if not _NONCE.fullmatch(nonce):
        raise LateWordInvalid("a nonce of placeholders is not 32 hexadecimal digits")
    return f"longshore-{nonce}-{word.value}-late"


def describe(text: str, nonce: str) -> str:
    """For people: `<token>` in place of what is filled in later."""
    return re.sub(rf"longshore-{re.escape(nonce)}-([a-z]+)-late", r"<\1>", text)


def fill(text: str, nonce: str, facts: LateFacts) -> str:
    """`text` with every placeholder of this nonce filled; an empty nonce: the text has none."""
    if not nonce:
        return text
    base = urlsplit(facts.base_url)
    words = {
        placeholder(nonce, LateWord.SCHEME): base.scheme,
        placeholder(nonce, LateWord.BASE_URL): facts.base_url,
        placeholder(nonce, LateWord.HOST): base.netloc,
        placeholder(nonce, LateWord.DOCUMENTS): facts.documents_url,
        placeholder(nonce, LateWord.DEVICE): facts.device_url,
        placeholder(nonce, LateWord.TOKEN): facts.token,
    }
    return re.sub("|".join(map(re.escape, words)), lambda found: words[found.group()], text)
