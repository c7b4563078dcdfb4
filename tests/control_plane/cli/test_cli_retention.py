"""Immutable tags, retention and signatures from the command line, against a running control plane."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from common.digest import Digest
from tests.control_plane.cli.programs import Longshore, Plane, eventually, layout_digest
from tests.control_plane.registry.people import descriptor, encode
from tests.control_plane.registry.signatures.signing import b64, new_key, public_pem, sign, simple_payload

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def pushed(admin: Longshore, viewer: Longshore, layout: Path) -> str:
    """The digest of an image that the tests push under many tags."""
    assert admin("image", "push", layout, "acme/kept:1.0").code == 0
    return layout_digest(layout)


def test_an_immutable_tag_cannot_be_removed_until_its_rule_is(admin: Longshore, viewer: Longshore, pushed: str) -> None:
    assert viewer("immutability", "add", "v*", "--tenant", "acme").code == 4
    rule = admin("immutability", "add", "1.*,!1.*-rc*", "--tenant", "acme", "--repository", "kept", "--json").json
    assert (rule["tags"], rule["except_tags"]) == (["1.*"], ["1.*-rc*"])
    refused = admin("image", "rm", "acme/kept:1.0")
    assert refused.code == 6
    assert rule["id"] in refused.err
    assert [row["id"] for row in viewer("immutability", "list", "acme", "--json").json] == [rule["id"]]
    assert viewer("immutability", "list").code == 0
    assert admin("immutability", "rm", rule["id"]).code == 5
    assert admin("immutability", "rm", rule["id"], "--tenant", "acme").code == 0
    platform = admin("immutability", "add", "never", "--json").json
    assert admin("immutability", "rm", platform["id"]).code == 0


def test_a_policy_is_made_previewed_and_carried_out(admin: Longshore, layout: Path, pushed: str) -> None:
    for number in range(3):
        manifest = _another_image(admin, layout, f"acme/old:{number}", number)
        assert manifest
    made = admin(
        *("retention", "create", "acme", "tidy", "--keep", "newest=1", "--keep", "newest_versions=2/minor:v*,!v0*"),
        *("--repository", "old", "--untagged-days", "30", "--json"),
    ).json
    assert made["rules"][1]["except_tags"] == ["v0*"]
    assert "newest=1:*" in admin("retention", "list", "acme").text
    going = admin("retention", "preview", "acme", "tidy", "--json").json
    assert sorted(row["tags"] for row in going) == [["0"], ["1"]]
    assert len(admin("retention", "preview", "acme", "tidy", "--all", "--json").json) == 3
    run = admin("retention", "run", "acme", "tidy", "--json").json

    def done() -> bool:
        (row,) = admin("retention", "runs", "acme", "tidy", "--json").json
        return bool(row["state"] == "done" and row["id"] == run["id"] and row["deleted"] == 2)

    eventually(done)
    (listed,) = [row for row in admin("image", "list", "--json").json if row["repository"] == "acme/old"]
    assert [tag["name"] for tag in listed["tags"]] == ["2"]
    assert admin("retention", "cancel", "acme", "tidy", run["id"]).code == 6
    assert admin("retention", "rm", "acme", made["id"]).code == 0
    assert admin("retention", "rm", "acme", "tidy").code == 5
    assert admin("retention", "create", "acme", "x", "--keep", "everything!").code == 2
    assert admin("retention", "create", "acme", "x", "--keep", "newest=0").code == 2


def test_an_unsigned_image_is_pulled_only_once_it_is_signed(
    admin: Longshore, viewer: Longshore, plane: Plane, layout: Path, pushed: str, tmp_path: Path
) -> None:
    assert admin("image", "push", layout, "acme/signed:1").code == 0
    key = new_key()
    (tmp_path / "cosign.pub").write_text(public_pem(key))
    assert admin("trusted-key", "add", "acme", "ci", tmp_path / "cosign.pub").code == 0
    assert viewer("trusted-key", "add", "acme", "mine", tmp_path / "cosign.pub").code == 4
    assert admin("signature-policy", "create", "acme", "signed", "--key", "ci", "--repository", "signed").code == 0
    refused = viewer("image", "pull", "acme/signed:1", tmp_path / "refused")
    assert refused.code == 4
    assert "the policy signed demands" in refused.err
    _sign(plane, key, "acme/signed", Digest.parse(pushed))
    assert viewer("image", "pull", "acme/signed:1", tmp_path / "pulled").code == 0
    (row,) = viewer("attachments", "acme/signed:1", "--json").json
    assert (row["kind"], row["format"], [each["name"] for each in row["verified_by"]]) == (
        "signature",
        "cosign",
        ["ci"],
    )
    assert "cosign" in viewer("attachments", "acme/signed:1").text
    assert admin("trusted-key", "rm", "acme", "ci").code == 6
    assert "signed" in viewer("signature-policy", "list", "acme").text
    assert admin("signature-policy", "rm", "acme", "signed").code == 0
    assert admin("trusted-key", "rm", "acme", "ci").code == 0
    assert admin("trusted-key", "list", "acme", "--json").json == []


def _another_image(admin: Longshore, layout: Path, reference: str, number: int) -> str:
    """The same layers under another config."""
    index = json.loads((layout / "index.json").read_bytes())
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"].partition(":")[2]).read_bytes())
    manifest["annotations"] = {"number": str(number)}
    payload = encode(manifest)
    copy = layout.parent / f"layout-{number}"
    copy.mkdir()
    (copy / "oci-layout").write_bytes((layout / "oci-layout").read_bytes())
    (copy / "blobs").mkdir()
    (copy / "blobs" / "sha256").mkdir()
    for path in blobs.iterdir():
        (copy / "blobs" / "sha256" / path.name).hardlink_to(path)
    (copy / "blobs" / "sha256" / Digest.of(payload).hex).write_bytes(payload)
    index["manifests"] = [descriptor(payload, manifest["mediaType"])]
    (copy / "index.json").write_bytes(encode(index))
    assert admin("image", "push", copy, reference).code == 0
    return str(Digest.of(payload))


def _sign(plane: Plane, key: object, repository: str, image: Digest) -> None:
    """As `cosign sign --key` does, by the tag scheme."""
    payload = simple_payload(image)
    annotations = {"dev.cosignproject.cosign/signature": b64(sign(key, payload))}  # type: ignore[arg-type]
    media_type = "application/vnd.dev.cosign.simplesigning.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(b"{}", "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(payload, media_type, annotations=annotations)],
    }
    with httpx.Client(base_url=plane.url, auth=("admin", plane.password)) as client:
        for data in (b"{}", payload):
            opened = client.post(f"/v2/{repository}/blobs/uploads/")
            done = client.put(opened.headers["location"], params={"digest": str(Digest.of(data))}, content=data)
            assert done.status_code == 201, done.text
        url = f"/v2/{repository}/manifests/sha256-{image.hex}.sig"
        headers = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
        assert client.put(url, content=encode(manifest), headers=headers).status_code == 201
