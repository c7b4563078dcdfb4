"""One installation whose server lives many short lives, and a client that goes on where the last one ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from common.digest import Digest
from tests.conformance.oci_push import begin, patch
from tests.conformance.oci_registry import (
    CONFIG,
    IMAGE,
    LAYER,
    DockerLogin,
    RegistryTarget,
    RegistryUser,
    closing,
    encode,
    unique,
)
from tests.engines.processes import wait_until
from tests.engines.scratch import is_running

_PASSWORD = re.compile(r"admin password: (\S+)")
LONG = 3
LISTENERS = ("http", "enrolment", "attach")


@dataclass
class Installation:
    """`start` begins a life; its addresses stay the same from the first life on."""

    root: Path
    environment: Mapping[str, str]
    nursery: subprocess.Popen[str]
    pid: int = 0
    ready: dict[str, str] = field(default_factory=dict)
    _password: str = ""

    @property
    def url(self) -> str:
        return f"http://{self.ready['http']}"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def armed(self) -> Path:
        return self.root / "armed"

    @property
    def log(self) -> str:
        path = self.root / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def password(self) -> str:
        if not self._password:
            assert wait_until(lambda: _PASSWORD.search(self.log) is not None, 10), self.log[-2000:]
            self._password = _PASSWORD.findall(self.log)[0]
        return self._password

    def start(self, die_at: int = 0) -> None:
        """`die_at`: ahead of which step, counted from `arm` on; 0: never."""
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.data.mkdir(parents=True, exist_ok=True)
        self.armed.unlink(missing_ok=True)
        ready = self.data / "ready.json"
        ready.unlink(missing_ok=True)
        order = {
            "arguments": self.arguments(),
            "environment": dict(self.environment),
            "log": str(self.root / "server.log"),
            "armed": str(self.armed),
            "die_at": die_at,
        }
        self.nursery.stdin.write(json.dumps(order) + "\n")
        self.nursery.stdin.flush()
        self.pid = int(self.nursery.stdout.readline())
        assert wait_until(lambda: ready.exists() or not self.alive, 30)
        assert self.alive, self.log[-3000:]
        self.ready = json.loads(ready.read_bytes())

    def arguments(self) -> list[str]:
        places = [f"--{name}={self.ready.get(name, '127.0.0.1:0')}" for name in LISTENERS]
        return ["serve", *places, f"--data={self.data}"]

    def arm(self) -> None:
        self.armed.write_text("")

    def steps(self) -> list[str]:
        """What was counted since `arm`."""
        return self.armed.read_text().splitlines()

    @property
    def alive(self) -> bool:
        return is_running(self.pid)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.pid and self.alive:
            with contextlib.suppress(ProcessLookupError):  # it just dies by itself
                os.kill(self.pid, number)
            if not wait_until(lambda: not self.alive, 20):
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"the server did not end by {number.name}:\n{self.log[-3000:]}")

    @contextlib.contextmanager
    def user(self, repository: str = "acme/web", timeout: float = 30) -> Iterator[RegistryUser]:
        target = RegistryTarget(self.url, "admin", self.password, "acme")
        with httpx.Client(base_url=self.url, auth=DockerLogin(target), timeout=timeout) as http:
            yield RegistryUser(http, target, repository=repository, other="acme/other")

    @contextlib.contextmanager
    def admin(self, timeout: float = 30) -> Iterator[httpx.Client]:
        """For the management API."""
        with httpx.Client(base_url=self.url, timeout=timeout) as client:
            answer = client.post("/api/v1/auth/login", json={"username": "admin", "password": self.password})
            assert answer.status_code == 200, answer.text
            client.headers["Authorization"] = f"Bearer {answer.json()['data']['access_token']}"
            yield client

    def recount(self) -> list[dict[str, Any]]:
        """What quota had wrong, of the tenant and of the user."""
        with self.admin() as admin:
            paths = ("/api/v1/tenants/acme/quota/recalculation", "/api/v1/users/admin/quota/recalculation")
            return [dict(admin.post(path).raise_for_status().json()["data"]) for path in paths]


NO_DRIFT = [{"used_bytes": 0, "reserved_bytes": 0, "image_count": 0, "charges": 0}] * 2


@contextlib.contextmanager
def installation(root: Path, environment: Mapping[str, str] | None = None) -> Iterator[Installation]:
    """Running, with the tenant acme."""
    root.mkdir(parents=True, exist_ok=True)
    nursery = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.nursery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(root / "nursery.log").open("ab"),
        text=True,
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if not name.startswith("LONGSHORE_")},  # noqa: TID251
    )
    made = Installation(root, environment or {}, nursery)
    try:
        made.start()
        with made.admin() as admin:
            admin.post("/api/v1/tenants", json={"name": "acme"}).raise_for_status()
        yield made
        made.stop()
    finally:
        with contextlib.suppress(AssertionError):
            made.kill()
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        nursery.stdin.close()
        nursery.kill()
        nursery.wait(10)
        nursery.stdout.close()


@contextlib.contextmanager
def replica_of(server: Installation, root: Path) -> Iterator[Installation]:
    """Another process of the same installation, whose environment names the database, the blobs and the secrets."""
    root.mkdir(parents=True, exist_ok=True)
    made = Installation(root, server.environment, server.nursery, _password=server.password)
    try:
        made.start()
        yield made
        made.stop()
    finally:
        with contextlib.suppress(AssertionError):
            made.kill()


@dataclass
class Push:
    """One image being pushed, and what the server acknowledged of it. `go_on` may be called again after any failure:
    it asks how far things are, as a client that resumes does.
    """

    tag: str
    layers: list[bytes] = field(default_factory=lambda: [unique(150_000), unique(3000), unique(900)])
    acknowledged: set[Digest] = field(default_factory=set)
    sent: set[Digest] = field(default_factory=set)
    location: str = ""
    done: bool = False

    def __post_init__(self) -> None:
        self.config = encode({"author": self.tag, "salt": unique(8).hex()})
        self.chunked, *self.whole = [*self.layers, self.config]

    def payload(self, user: RegistryUser) -> bytes:
        layers = [user.describe(each, LAYER) for each in self.layers]
        return encode(
            {
                "schemaVersion": 2,
                "mediaType": IMAGE,
                "config": user.describe(self.config, CONFIG),
                "layers": layers,
            }
        )

    def go_on(self, user: RegistryUser) -> None:
        """Raises `httpx.TransportError` when the server dies."""
        self._push_chunked(user, self.chunked)
        for content in self.whole:
            digest = user.digest(content)
            if digest not in self.acknowledged:
                self.sent.add(digest)
                path = user.path("blobs", "uploads", "") + f"?digest={digest}"
                answer = user.ask("POST", path, content)
                assert answer.status_code == 201, answer.text
                self.acknowledged.add(digest)
        payload = self.payload(user)
        self.sent.add(user.digest(payload))
        answer = user.ask("PUT", user.path("manifests", self.tag), payload, Content_Type=IMAGE)
        assert answer.status_code == 201, answer.text
        self.acknowledged.add(user.digest(payload))
        self.done = True

    def _push_chunked(self, user: RegistryUser, content: bytes) -> None:
        digest = user.digest(content)
        if digest in self.acknowledged:
            return
        if not self.location:
            self.location = begin(user)
        answer = self._send(user, content)
        if answer.status_code == 503 and int(answer.headers["Retry-After"]) > LONG:
            # A dead server's hold on an upload in a bucket ends with time: quicker than waiting is a new one.
            self.location = begin(user)
            answer = self._send(user, content)
        assert answer.status_code == 201, answer.text
        self.acknowledged.add(digest)

    def _send(self, user: RegistryUser, content: bytes) -> httpx.Response:
        """What the server does not have yet; its last answer, or its first refusal."""
        held = self._held(user)
        third = len(content) // 3 + 1
        while held < len(content):
            answer = patch(user, self.location, content[held : held + third], held)
            if answer.status_code != 202:
                return answer
            held += min(third, len(content) - held)
        self.sent.add(user.digest(content))
        return user.ask("PUT", closing(self.location, user.digest(content)))

    def _held(self, user: RegistryUser) -> int:
        answer = user.ask("GET", self.location)
        if answer.status_code == 404:  # it ended while the row of it was made
            self.location = begin(user)
            return 0
        assert answer.status_code == 204, answer.text
        return int(answer.headers["Upload-Offset"])

    def check(self, user: RegistryUser) -> None:
        """What was acknowledged is there, byte for byte; what was never sent whole is not; what was under way is there
        whole or not at all.
        """
        for content in (*self.layers, self.config):
            digest = user.digest(content)
            answer = user.ask("GET", user.path("blobs", digest))
            self._judge(digest, content, answer)
        payload = self.payload(user)
        for reference in (self.tag, user.digest(payload)):
            self._judge(user.digest(payload), payload, user.ask("GET", user.path("manifests", reference)))

    def _judge(self, digest: Digest, content: bytes, answer: httpx.Response) -> None:
        if digest in self.acknowledged:
            assert answer.status_code == 200, (self.tag, digest, answer.text)
        elif digest not in self.sent:
            assert answer.status_code == 404, (self.tag, digest, answer.status_code)
        else:
            assert answer.status_code in (200, 404), (self.tag, digest, answer.text)
        assert answer.status_code == 404 or answer.content == content
