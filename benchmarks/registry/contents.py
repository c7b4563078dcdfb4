"""What both servers hold while they are read: a large blob, and a small image of four layers under a tag."""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.registry.pushing import Pusher, Source
from benchmarks.registry.servers import REPOSITORY, Target

_LAYERS = 4


@dataclass(frozen=True)
class Contents:
    """Digests. `small` are the config and the layers of the image `latest`."""

    large: str
    large_bytes: int
    manifest: str
    small: tuple[str, ...]

    @property
    def blob_request(self) -> str:
        return f"GET /v2/{REPOSITORY}/blobs/{self.large}"

    @property
    def plain_request(self) -> str:
        """The same file from nginx without any check."""
        hexadecimal = self.large.removeprefix("sha256:")
        return f"GET /plain/sha256/{hexadecimal[:2]}/{hexadecimal}"

    @property
    def tag_request(self) -> str:
        return f"GET /v2/{REPOSITORY}/manifests/latest"

    @property
    def digest_request(self) -> str:
        return f"GET /v2/{REPOSITORY}/manifests/{self.manifest}"

    @property
    def pull_requests(self) -> list[str]:
        """As a client pulls a small image: the base, the tag, the config and four layers; seven requests. (Some ask
        for the tag by HEAD and then for the digest; wrk does not understand answers to HEAD.)
        """
        blobs = [f"GET /v2/{REPOSITORY}/blobs/{digest}" for digest in self.small]
        return ["GET /v2/", self.tag_request, *blobs]


def store(target: Target, large_bytes: int, tag: str = "latest", layer_count: int = _LAYERS) -> Contents:
    """Push the same contents to a server; under another tag, others of the same sizes."""
    other = "" if tag == "latest" else f" of {tag}"
    large = Source(f"large{other}".encode(), large_bytes)
    config = Source(f"config{other}".encode(), 1500)
    layers = [Source(f"layer {number}{other}".encode(), 4096) for number in range(layer_count)]
    digests = {source.seed: source.digest() for source in (large, config, *layers)}
    pusher = Pusher(target)
    try:
        for source in (large, config, *layers):
            pusher.blob(source, digests[source.seed])
        kind = "application/vnd.oci.image."
        document = {
            "schemaVersion": 2,
            "mediaType": f"{kind}manifest.v1+json",
            "config": {"mediaType": f"{kind}config.v1+json", "digest": digests[config.seed], "size": config.size},
            "layers": [
                {"mediaType": f"{kind}layer.v1.tar", "digest": digests[layer.seed], "size": layer.size}
                for layer in layers
            ],
        }
        manifest = pusher.manifest(tag, json.dumps(document).encode())
    finally:
        pusher.close()
    small = tuple(digests[source.seed] for source in (config, *layers))
    return Contents(digests[large.seed], large.size, manifest, small)
