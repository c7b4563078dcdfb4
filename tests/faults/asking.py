"""Every kind of request to the registry at once, and what must hold of the answers while a part of it is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from common.digest import Digest
from tests.conformance.oci_push import begin, patch
from tests.conformance.oci_registry import IMAGE, LAYER, Pushed, RegistryUser, closing, codes_of, encode, unique
from tests.engines.processes import wait_until

Request = Callable[[], httpx.Response]


@dataclass
class Scene:
    """An image that is pulled, one that is deleted and an upload under way, made while all is well."""

    user: RegistryUser
    image: Pushed
    layer: bytes
    doomed: Pushed
    content: bytes
    location: str
    held: int

    @property
    def layer_digest(self) -> Digest:
        return self.user.digest(self.layer)

    @classmethod
    def set(cls, user: RegistryUser, layer_bytes: int = 300_000) -> Scene:
        layer = unique(layer_bytes)
        user.blob(layer)
        document = user.image_document()
        document["layers"].append(user.describe(layer, LAYER))
        image = user.manifest(document, "kept")
        doomed = user.image("doomed")
        content = unique(200_000)
        location = patch(user, begin(user), content[:80_000], 0).headers["Location"]
        # Tokens for whatever is asked later, as a client that is at work has them.
        user.ask("DELETE", user.path("manifests", "no-such-tag"))
        return cls(user, image, layer, doomed, content, location, 80_000)

    def reads(self) -> dict[str, Request]:
        user = self.user
        return {
            "pull by tag": lambda: user.ask("GET", user.path("manifests", "kept")),
            "pull by digest": lambda: user.ask("GET", user.path("manifests", self.image.digest)),
            "blob": lambda: user.ask("GET", user.path("blobs", self.layer_digest)),
            "range": lambda: user.ask("GET", user.path("blobs", self.layer_digest), Range="bytes=1000-1999"),
            "head manifest": lambda: user.ask("HEAD", user.path("manifests", "kept")),
            "head blob": lambda: user.ask("HEAD", user.path("blobs", self.layer_digest)),
            "tags": lambda: user.ask("GET", user.path("tags", "list")),
            "catalogue": self.catalogue,
            "token": self.token,
        }

    def writes(self) -> dict[str, Request]:
        user, whole = self.user, unique(50_000)
        manifest = encode({"schemaVersion": 2, "mediaType": IMAGE, "layers": [], "config": user.describe(b"{}", IMAGE)})
        return {
            "begin": lambda: user.ask("POST", user.path("blobs", "uploads", "")),
            "push whole": lambda: user.ask(
                "POST", user.path("blobs", "uploads", "") + f"?digest={user.digest(whole)}", whole
            ),
            "append": lambda: patch(user, self.location, self.content[self.held : 150_000], self.held),
            "push manifest": lambda: user.ask(
                "PUT", user.path("manifests", "new"), self.image.payload, Content_Type=IMAGE
            ),
            "bad manifest": lambda: user.ask("PUT", user.path("manifests", "bad"), manifest, Content_Type=IMAGE),
            "delete": lambda: user.ask("DELETE", user.path("manifests", self.doomed.digest)),
        }

    def token(self) -> httpx.Response:
        target = self.user.target
        query = {"service": "longshore-registry", "scope": f"repository:{self.user.repository}:pull"}
        with httpx.Client(base_url=target.url, timeout=self.user.http.timeout) as client:
            return client.get("/v2/token", params=query, auth=(target.username, target.password))

    def catalogue(self) -> httpx.Response:
        return self.user.ask("GET", "/v2/_catalog")

    def right(self, name: str, answer: httpx.Response) -> bool:
        """Whether an answer that is no refusal is what it must be."""
        wanted: dict[str, tuple[int, bytes | None]] = {
            "pull by tag": (200, self.image.payload),
            "pull by digest": (200, self.image.payload),
            "blob": (200, self.layer),
            "range": (206, self.layer[1000:2000]),
            "head manifest": (200, b""),
            "head blob": (200, b""),
            "begin": (202, None),
            "push whole": (201, None),
            "append": (202, None),
            "push manifest": (201, None),
            "bad manifest": (400, None),
            "delete": (202, None),
        }
        status, body = wanted.get(name, (200, None))
        if answer.status_code != status:
            return False
        return body is None or answer.content == body

    def ask_all(self, requests: dict[str, Request], patience: float) -> dict[str, int]:
        """At once, each within `patience` seconds: a right answer, or a clear refusal that says when to come again.
        Returns the statuses.
        """
        begun = time.monotonic()
        with ThreadPoolExecutor(len(requests)) as pool:
            asked = {name: pool.submit(_answered, request) for name, request in requests.items()}
            answers = {name: each.result() for name, each in asked.items()}
        took = time.monotonic() - begun
        statuses = {}
        for name, answer in answers.items():
            if answer is None:
                statuses[name] = 0  # the connection was cut in the middle of a body: nobody takes that for whole
                assert name in ("blob", "range"), name
                continue
            statuses[name] = answer.status_code
            if self.right(name, answer):
                continue
            assert answer.status_code in (503, 507), (name, answer.status_code, answer.text)
            assert int(answer.headers["Retry-After"]) >= 1, name
            if answer.request.method != "HEAD":
                assert codes_of(answer) == ["UNAVAILABLE"], (name, answer.text)
        assert took < patience, (took, statuses)
        return statuses

    def finish(self) -> None:
        """What was begun while all was well goes on once it is again, and nothing that was there is gone."""
        user = self.user
        assert wait_until(lambda: user.ask("GET", self.location).status_code == 204, 30, 0.2)
        for name, request in self.reads().items():
            answer = request()
            assert self.right(name, answer), (name, answer.status_code, answer.text[:300])
        held = int(user.ask("GET", self.location).headers["Upload-Offset"])
        assert self.held <= held <= len(self.content)
        assert patch(user, self.location, self.content[held:], held).status_code == 202
        digest = user.digest(self.content)
        assert user.ask("PUT", closing(self.location, digest)).status_code == 201
        assert user.ask("GET", user.path("blobs", digest)).content == self.content
        user.image("after")


def _answered(request: Request) -> httpx.Response | None:
    try:
        return request()
    except httpx.RemoteProtocolError:
        return None
