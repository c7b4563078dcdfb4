"""Where the command line finds its server and credentials.

Order: option, environment (`LONGSHORE_SERVER`, `LONGSHORE_TOKEN`, `LONGSHORE_CREDENTIALS`), the file that `longshore
login` wrote (mode 0600, under the user's configuration directory).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.durable import write_file
from common.errors import Invalid, Unauthenticated

DEFAULT_SERVER = "http://127.0.0.1:8080"


class CliSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LONGSHORE_", frozen=True, extra="ignore")

    server: str | None = Field(
        default=None, description="URL of the control plane; default: where you logged in last, or this computer"
    )
    token: str | None = Field(default=None, repr=False, description="API key, used instead of a login")
    credentials: Path = Field(
        default=Path("~/.config/longshore/credentials.json"), description="file of the login, readable by you alone"
    )


class Credentials:
    """The tokens of one user, by server URL."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()

    def default_server(self) -> str | None:
        found = self._load().get("default")
        return str(found) if found else None

    def tokens(self, server: str) -> dict[str, str]:
        found: dict[str, str] = self._load().get("servers", {}).get(server, {})
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time is inside. `keep` and `forget` do not take the lock themselves."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.with_name(f".{self._path.name}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def keep(self, server: str, tokens: dict[str, str]) -> None:
        document = self._load()
        document["default"] = server
        document.setdefault("servers", {})[server] = tokens
        self._save(document)

    def forget(self, server: str) -> dict[str, str]:
        """The tokens that were kept. Raises `Unauthenticated` if there are none."""
        document = self._load()
        found: dict[str, str] | None = document.get("servers", {}).pop(server, None)
        if found is None:
            raise Unauthenticated(f"you are not logged in at {server}", action="nothing to do")
        self._save(document)
        return found

    def _load(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        try:
            document = json.loads(self._path.read_text())
        except ValueError as error:
            raise Invalid(f"{self._path} is damaged", action="remove it and log in again") from error
        return document if isinstance(document, dict) else {}

    def _save(self, document: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(self._path, json.dumps(document, indent=1).encode(), 0o600)
