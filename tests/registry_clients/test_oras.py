"""oras (as its Python client speaks) pushes artifacts to us, attaches others to them, finds and pulls them; and what
cosign and notation attach, made by hand as they make it.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oras.client
import oras.defaults
import oras.oci
import pytest

from common.digest import Digest
from tests.registry_clients.serving import ServedRegistry

WEB = "acme/web"
COSIGN = "application/vnd.dev.cosign.artifact.sig.v1+json"
NOTATION = "application/vnd.cncf.notary.signature"


@dataclass
class Oras:
    """The client, logged in; `get` asks what it has no word for."""

    client: oras.client.OrasClient
    address: str

    def push(self, name: str, *files: Path, subject: oras.oci.Subject | None = None, **more: Any) -> Digest:
        answer = self.client.push(
            f"{self.address}/{name}",
            files=[str(each) for each in files],
            disable_path_validation=True,
            subject=subject,
            quiet=True,
            **more,
        )
        assert answer.status_code == 201
        if subject is not None:
            assert answer.headers["OCI-Subject"] == subject.digest
        return Digest.parse(answer.headers["Docker-Content-Digest"])

    def get(self, path: str) -> Any:
        answer = self.client.do_request(f"http://{self.address}/v2/{path}", "GET")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def subject(self, digest: Digest) -> oras.oci.Subject:
        payload = self.client.do_request(f"http://{self.address}/v2/{WEB}/manifests/{digest}", "GET").content
        media_type = str(json.loads(payload)["mediaType"])
        return oras.oci.Subject(mediaType=media_type, digest=str(digest), size=len(payload))


@pytest.fixture
def client(served: ServedRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Oras:
    """Its home is a directory of the test: it keeps logins there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    logging.getLogger("oras").setLevel(logging.ERROR)
    return Oras(logged_in(served, tmp_path, "token"), served.address)


def logged_in(served: ServedRegistry, tmp_path: Path, backend: str) -> oras.client.OrasClient:
    opened = oras.client.OrasClient(hostname=served.address, insecure=True, auth_backend=backend)
    opened.login(
        hostname=served.address,
        username="ada",
        password="secret",
        config_path=str(tmp_path / "login.json"),
    )
    return opened


def written(path: Path, size: int = 100_000) -> Path:
    path.write_bytes(os.urandom(size))
    return path


@pytest.mark.parametrize("in_chunks", [False, True])
def test_oras_pulls_what_it_pushed(client: Oras, served: ServedRegistry, tmp_path: Path, in_chunks: bool) -> None:
    files = [written(tmp_path / "model.bin", 3_000_000), written(tmp_path / "notes.txt")]
    digest = client.push(f"{WEB}:1", *files, do_chunked=in_chunks, chunk_size=700_000)
    for name in (f"{WEB}:1", f"{WEB}@{digest}"):
        out = tmp_path / f"out-{len(name)}"
        client.client.pull(f"{served.address}/{name}", outdir=str(out))
        assert {each.name: each.read_bytes() for each in out.iterdir()} == {
            each.name: each.read_bytes() for each in files
        }
    assert client.client.get_tags(f"{served.address}/{WEB}") == ["1"]
    assert served.pending_uploads() == []


def test_what_oras_attaches_is_discovered(client: Oras, served: ServedRegistry, tmp_path: Path) -> None:
    image = client.push(f"{WEB}:1", written(tmp_path / "image"))
    subject = client.subject(image)
    attached = [
        client.push(f"{WEB}:sbom-{n}", written(tmp_path / f"sbom{n}"), subject=subject, manifest_annotations={"n": n})
        for n in ("one", "two")
    ]
    found = client.get(f"{WEB}/referrers/{image}")["manifests"]
    assert {each["digest"] for each in found} == {str(each) for each in attached}
    assert {each["annotations"]["n"] for each in found} == {"one", "two"}
    assert {each["artifactType"] for each in found} == {oras.defaults.unknown_config_media_type}
    # With a password: it never asks for a token with another scope than its first.
    logged_in(served, tmp_path, "basic").delete_tag(f"{client.address}/{WEB}", "sbom-one")
    assert client.get(f"{WEB}/tags/list")["tags"] == ["1", "sbom-two"]


@pytest.mark.parametrize(
    ("artifact_type", "layer_type", "annotations"),
    [
        (COSIGN, "application/vnd.dev.cosign.simplesigning.v1+json", {"dev.cosignproject.cosign/signature": "MEUC"}),
        (NOTATION, "application/jose+json", {"io.cncf.notary.x509chain.thumbprint#S256": '["ab"]'}),
    ],
)
def test_signatures_attach_and_are_found_by_their_type(
    client: Oras, tmp_path: Path, artifact_type: str, layer_type: str, annotations: dict[str, str]
) -> None:
    image = client.push(f"{WEB}:1", written(tmp_path / "image"))
    client.push(f"{WEB}:other", written(tmp_path / "other"), subject=client.subject(image))
    container = client.client.get_container(f"{client.address}/{WEB}:signature")
    config, signature = tmp_path / "config", written(tmp_path / "signature", 700)
    config.write_bytes(b"{}")
    manifest = oras.oci.NewManifest()
    for path, media_type in ((config, "application/vnd.oci.empty.v1+json"), (signature, layer_type)):
        client.client.upload_blob(str(path), container, oras.oci.NewLayer(str(path), media_type=media_type))
    manifest |= {
        "artifactType": artifact_type,
        "config": oras.oci.NewLayer(str(config), media_type="application/vnd.oci.empty.v1+json"),
        "layers": [{**oras.oci.NewLayer(str(signature), media_type=layer_type), "annotations": annotations}],
        "subject": vars(client.subject(image)),
        "annotations": annotations,
    }
    # oras checks manifests against its own schema, which is older than `artifactType`.
    payload = json.dumps(manifest).encode()
    answer = client.client.do_request(
        f"http://{container.manifest_url()}", "PUT", data=payload, headers={"Content-Type": manifest["mediaType"]}
    )
    assert (answer.status_code, answer.headers["OCI-Subject"]) == (201, str(image))
    [found] = client.get(f"{WEB}/referrers/{image}?artifactType={artifact_type}")["manifests"]
    assert (found["artifactType"], found["annotations"]) == (artifact_type, annotations)
    assert found["digest"] == str(Digest.of(payload))
