"""Copying an image within the registry: no byte of a layer moves, blobs are mounted ("Mounting a blob", distribution
specification).

Order: blobs, then images from the leaves up, then what is attached to them, the tag last: who sees the tag finds
everything.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from common.digest import Digest
from common.errors import Invalid
from common.reference import Reference
from control_plane.cli.client import Client
from control_plane.cli.failures import failure_of
from control_plane.cli.image_source import OCI_MANIFEST
from control_plane.cli.pull import MANIFEST_TYPES

# Where cosign puts what has no subject.
_COSIGN_TAGS = ("sig", "att", "sbom")
_DEEPEST = 8


@dataclass(slots=True)
class Copying:
    """From one repository into another, or the same. `manifests` are those that were put there."""

    client: Client
    source: str
    target: str
    attached: bool = True
    manifests: dict[Digest, str] = field(default_factory=dict)

    def copy(self, reference: Reference, name: str) -> Digest:
        """The image that `reference` names, as `name` of the target (a tag; empty: by its digest alone)."""
        return self._manifest(str(reference.digest or reference.tag), name, 0)

    def _manifest(self, wanted: str, name: str, depth: int) -> Digest:
        answer = self.client.raw("GET", f"/v2/{self.source}/manifests/{wanted}", headers={"Accept": MANIFEST_TYPES})
        if answer.status != 200:
            raise failure_of(answer.status, answer.data, f"reading {self.source}:{wanted}")
        digest = Digest.of(answer.data, wanted.partition(":")[0] if ":" in wanted else "sha256")
        if ":" in wanted:
            Digest.parse(wanted).verify(digest)
        document: dict[str, Any] = json.loads(answer.data)
        media_type = str(answer.headers.get("Content-Type", OCI_MANIFEST))
        if digest not in self.manifests:
            self._contents(document, depth)
            self._put(str(digest), media_type, answer.data)
            self.manifests[digest] = media_type
            if self.attached and depth < _DEEPEST:
                self._attached_to(digest, depth)
        if name:
            self._put(name, media_type, answer.data)
        return digest

    def _contents(self, document: dict[str, Any], depth: int) -> None:
        for child in document.get("manifests", []):
            if depth >= _DEEPEST:
                raise Invalid(f"{self.source} nests indexes too deeply", action="copy the inner image by its digest")
            if self._has(str(child["digest"])):  # else the index is sparse
                self._manifest(str(child["digest"]), "", depth + 1)
        if self.source != self.target:
            for part in _blobs_of(document):
                self._mount(part)

    def _has(self, digest: str) -> bool:
        return self.client.raw("HEAD", f"/v2/{self.source}/manifests/{digest}").status == 200

    def _mount(self, part: dict[str, Any]) -> None:
        path = f"/v2/{self.target}/blobs/uploads/?mount={part['digest']}&from={self.source}"
        answer = self.client.raw("POST", path, headers={"Content-Length": "0"})
        if answer.status == 201:
            return
        if answer.status != 202:
            raise failure_of(answer.status, answer.data, f"mounting {part['digest']} into {self.target}")
        self.client.raw("DELETE", answer.headers["Location"])
        if not part.get("urls"):  # with addresses of its own, nobody needs to have it
            raise Invalid(
                f"{part['digest']} cannot be mounted from {self.source}",
                action="check that you may pull there, and that its blobs are there: a mirror may not have fetched it",
            )

    def _put(self, name: str, media_type: str, payload: bytes) -> None:
        path = f"/v2/{self.target}/manifests/{name}"
        answer = self.client.raw("PUT", path, headers={"Content-Type": media_type}, body=payload)
        if answer.status != 201:
            raise failure_of(answer.status, answer.data, f"writing {self.target}:{name}")

    def _attached_to(self, digest: Digest, depth: int) -> None:
        for referrer in self._referrers(digest):
            self._manifest(referrer, "", depth + 1)
        for suffix in _COSIGN_TAGS:
            tag = f"{digest.algorithm}-{digest.hex}.{suffix}"
            if self.client.raw("HEAD", f"/v2/{self.source}/manifests/{tag}").status == 200:
                self._manifest(tag, tag, depth + 1)

    def _referrers(self, digest: Digest) -> Iterator[str]:
        path: str | None = f"/v2/{self.source}/referrers/{digest}"
        while path is not None:
            answer = self.client.raw("GET", path)
            if answer.status != 200:
                raise failure_of(answer.status, answer.data, f"reading what refers to {digest}")
            yield from (str(each["digest"]) for each in json.loads(answer.data).get("manifests", []))
            link = str(answer.headers.get("Link", ""))
            path = link[1 : link.index(">")] if link.startswith("<") and ">" in link else None


def _blobs_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    config = [document["config"]] if "config" in document else []
    yield from itertools.chain(config, document.get("layers", []))
