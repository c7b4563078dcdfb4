"""Pushing and pulling images in every form that they lie in on a disk."""

import gzip
import json
import shutil
import tarfile
from pathlib import Path

import httpx
import pytest

from common.digest import Digest
from deploy.demo.sample import build_sample
from tests.control_plane.cli.cutting import Cutter
from tests.control_plane.cli.programs import (
    Longshore,
    Plane,
    eventually,
    layout_blobs,
    layout_digest,
    tar_of,
)

pytestmark = pytest.mark.processes


def test_a_layout_is_pushed_and_pulled_with_equal_bytes(admin: Longshore, layout: Path, tmp_path: Path) -> None:
    pushed = admin("image", "push", layout, "acme/layout:1.4", "--json")
    assert pushed.json["digest"] == layout_digest(layout)
    assert pushed.json["reference"] == "acme/layout:1.4"
    assert pushed.err == ""
    pulled = admin("image", "pull", "acme/layout:1.4", tmp_path / "copy", "--json")
    assert pulled.json["digest"] == layout_digest(layout)
    assert layout_blobs(tmp_path / "copy") == layout_blobs(layout)
    again = admin("image", "push", tmp_path / "copy", "acme/again:1", "--json")
    assert again.json["digest"] == layout_digest(layout)


def test_progress_is_for_standard_error(admin: Longshore, layout: Path, tmp_path: Path) -> None:
    pushed = admin("image", "push", layout, "acme/progress:1")
    assert pushed.out == f"acme/progress:1 pushed: {layout_digest(layout)}\n"
    assert "MiB" in pushed.err
    pulled = admin("image", "pull", "acme/progress:1", tmp_path / "copy")
    assert pulled.out.splitlines() == [f"acme/progress:1 pulled to {tmp_path / 'copy'}: {layout_digest(layout)}"]
    assert "MiB" in pulled.err


def test_a_tar_of_a_layout_is_the_same_image(admin: Longshore, layout: Path, tmp_path: Path) -> None:
    archive = tar_of(layout, tmp_path / "image.tar")
    assert admin("image", "push", archive, "acme/tar:1", "--json").json["digest"] == layout_digest(layout)


def test_a_second_push_moves_nothing(admin: Longshore, plane: Plane, layout: Path, tmp_path: Path) -> None:
    archive = docker_archive(layout, tmp_path / "saved.tar")
    first = admin("image", "push", archive, "acme/saved:1", "--json").json
    with Cutter(plane.url) as counting:
        again = admin("--server", counting.url, "--token", admin_key(admin), "image", "push", archive, "acme/saved:1")
        assert again.code == 0
        assert counting.sent_bytes < 20_000
    assert first["size_bytes"] > 1_000_000
    assert first["digest"] in again.out


def test_a_docker_archive_becomes_an_oci_image_with_its_files(admin: Longshore, layout: Path, tmp_path: Path) -> None:
    archive = docker_archive(layout, tmp_path / "saved.tar")
    assert admin("image", "push", archive, "acme/docker:1").code == 0
    assert admin("image", "pull", "acme/docker:1", tmp_path / "copy").code == 0
    manifest = manifest_of(tmp_path / "copy")
    blobs = layout_blobs(tmp_path / "copy")
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    plain = [gzip.decompress(blobs[part["digest"].removeprefix("sha256:")]) for part in manifest["layers"]]
    assert [str(Digest.of(data)) for data in plain] == config["rootfs"]["diff_ids"]


def test_an_index_of_several_platforms_is_pushed_whole(admin: Longshore, tmp_path: Path) -> None:
    several = index_of(
        [build_sample(tmp_path / name, layer_mebibytes=1).layout for name in ("one", "two")], tmp_path / "several"
    )
    assert admin("image", "push", several, "acme/several:1", "--json").json["digest"] == layout_digest(several)
    assert admin("image", "pull", "acme/several:1", tmp_path / "copy").code == 0
    assert layout_blobs(tmp_path / "copy") == layout_blobs(several)


def test_a_pull_goes_on_where_the_connection_was_cut(
    admin: Longshore, plane: Plane, layout: Path, tmp_path: Path
) -> None:
    assert admin("image", "push", layout, "acme/cut:1").code == 0
    with Cutter(plane.url, cut_answer_after=600_000) as cutter:
        words = ["--server", cutter.url, "--token", admin_key(admin), "image", "pull", "acme/cut:1"]
        assert admin(*words, tmp_path / "copy").code == 0
        assert cutter.cuts >= 3
        # Only the rest is fetched again: what was lost in buffers is less than one image.
        assert cutter.received_bytes < 1.5 * sum(map(len, layout_blobs(layout).values()))
    assert layout_blobs(tmp_path / "copy") == layout_blobs(layout)


def test_a_pull_mends_a_damaged_and_an_unfinished_copy(admin: Longshore, layout: Path, tmp_path: Path) -> None:
    assert admin("image", "push", layout, "acme/mend:1").code == 0
    assert admin("image", "pull", "acme/mend:1", tmp_path / "copy").code == 0
    largest, second = sorted((tmp_path / "copy" / "blobs" / "sha256").iterdir(), key=lambda path: -path.stat().st_size)[
        :2
    ]
    with largest.open("r+b") as file:
        file.write(b"damaged")
    half = second.read_bytes()[: second.stat().st_size // 2]
    second.unlink()
    second.with_suffix(".partial").write_bytes(half)
    assert admin("image", "pull", "acme/mend:1", tmp_path / "copy").code == 0
    assert layout_blobs(tmp_path / "copy") == layout_blobs(layout)


def test_images_are_listed_by_tag(admin: Longshore, viewer: Longshore, layout: Path) -> None:
    for tag in ("1", "2"):
        assert admin("image", "push", layout, f"acme/listed:{tag}").code == 0
    rows = [line for line in viewer("image", "list", "--tenant", "acme").text.splitlines() if "acme/listed" in line]
    assert [row.split()[:3] for row in rows] == [["acme/listed", tag, layout_digest(layout)] for tag in ("1", "2")]
    assert all("MiB" in row for row in rows)
    told = next(row for row in viewer("image", "list", "--json").json if row["repository"] == "acme/listed")
    assert [tag["name"] for tag in told["tags"]] == ["1", "2"]
    assert admin("image", "list", "--tenant", "nosuch", "--json").json == []


def test_an_image_is_removed(admin: Longshore, layout: Path, tmp_path: Path) -> None:
    assert admin("image", "push", layout, "acme/gone:1").code == 0
    assert admin("image", "rm", "acme/gone:1").text == "acme/gone:1 removed."
    assert admin("image", "rm", "acme/gone:1").code == 5
    assert admin("image", "pull", "acme/gone:1", tmp_path / "copy").code == 5


def test_a_viewer_may_pull_and_not_push_or_remove(
    admin: Longshore, viewer: Longshore, layout: Path, tmp_path: Path
) -> None:
    assert admin("image", "push", layout, "acme/read:1").code == 0
    assert viewer("image", "pull", "acme/read:1", tmp_path / "copy").code == 0
    assert viewer("image", "push", layout, "acme/written:1").code == 4
    assert viewer("image", "rm", "acme/read:1").code == 4


def test_a_repository_of_no_tenant_is_not_found(admin: Longshore, layout: Path) -> None:
    assert admin("image", "push", layout, "nosuchtenant/web:1").code == 5


def test_what_is_no_image_is_named(admin: Longshore, layout: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not an archive")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "index.json").write_text("[]")
    lacking = tmp_path / "lacking"
    shutil.copytree(layout, lacking)
    max((lacking / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size).unlink()
    lying = tmp_path / "lying"
    shutil.copytree(layout, lying)
    (lying / "blobs" / "sha256" / layout_digest(layout).removeprefix("sha256:")).write_text("{}")
    for path in (tmp_path / "text", tmp_path / "empty", tmp_path / "list", lacking, lying):
        answer = admin("image", "push", path, "acme/none:1")
        assert (answer.code, answer.out) == (2, ""), (path, answer)
    assert not any(row["repository"] == "acme/none" for row in admin("image", "list", "--json").json)


def test_an_archive_that_leads_out_of_its_directory_is_refused(admin: Longshore, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.add(__file__, "../../evil")
    assert admin("image", "push", tmp_path / "evil.tar", "acme/none:1").code == 2


def test_a_push_survives_a_killed_control_plane(admin: Longshore, plane: Plane, tmp_path: Path) -> None:
    large = build_sample(tmp_path / "large", layer_mebibytes=55).layout
    with Cutter(plane.url, pause_request_after=70 << 20) as cutter:
        words = ["--server", cutter.url, "--token", admin_key(admin), "image", "push", large, "acme/large:1", "--json"]
        pushing = cutter.background(admin, *words)
        eventually(lambda: cutter.paused)
        plane.service.kill()
        plane.service.start()
        cutter.resume()
        answer = pushing.result(100)
        assert answer.json["digest"] == layout_digest(large)
        # One chunk of 16 MiB may be sent twice, and the end of what was in flight.
        assert cutter.sent_bytes < sum(map(len, layout_blobs(large).values())) + (40 << 20)
    assert admin("image", "pull", "acme/large:1", tmp_path / "copy").code == 0
    assert layout_blobs(tmp_path / "copy") == layout_blobs(large)


def test_a_push_survives_connections_that_are_cut(admin: Longshore, plane: Plane, tmp_path: Path) -> None:
    fresh = build_sample(tmp_path / "fresh", layer_mebibytes=20).layout
    with Cutter(plane.url, cut_request_after=18 << 20) as cutter:
        words = ["--server", cutter.url, "--token", admin_key(admin), "image", "push", fresh, "acme/cutpush:1"]
        assert admin(*words).code == 0
        assert cutter.cuts >= 2
    assert admin("image", "pull", "acme/cutpush:1", tmp_path / "copy").code == 0
    assert layout_blobs(tmp_path / "copy") == layout_blobs(fresh)


def admin_key(admin: Longshore) -> str:
    return admin("api-key", "create", "through-a-proxy").text


def manifest_of(layout: Path) -> dict:
    return dict(json.loads(layout_blobs(layout)[layout_digest(layout).removeprefix("sha256:")]))


def docker_archive(layout: Path, target: Path) -> Path:
    """What `docker save` wrote before it wrote layouts: plain layers, and a manifest.json that names them."""
    manifest, blobs, root = manifest_of(layout), layout_blobs(layout), target.with_suffix("")
    root.mkdir()
    (root / "config.json").write_bytes(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    names = []
    for number, part in enumerate(manifest["layers"]):
        (root / str(number)).mkdir()
        (root / str(number) / "layer.tar").write_bytes(gzip.decompress(blobs[part["digest"].removeprefix("sha256:")]))
        names.append(f"{number}/layer.tar")
    entry = {"Config": "config.json", "RepoTags": ["web:1"], "Layers": names}
    (root / "manifest.json").write_text(json.dumps([entry]))
    return tar_of(root, target)


def index_of(layouts: list[Path], target: Path) -> Path:
    """One layout whose image is an index of the images of `layouts`."""
    manifests = []
    for layout, architecture in zip(layouts, ("amd64", "arm64"), strict=True):
        shutil.copytree(layout, target, dirs_exist_ok=True)
        (described,) = json.loads((layout / "index.json").read_bytes())["manifests"]
        manifests.append({**described, "platform": {"os": "linux", "architecture": architecture}})
    media_type = "application/vnd.oci.image.index.v1+json"
    payload = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}).encode()
    digest = Digest.of(payload)
    (target / "blobs" / "sha256" / digest.hex).write_bytes(payload)
    described = {"mediaType": media_type, "digest": str(digest), "size": len(payload)}
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return target


def test_an_image_is_promoted_with_what_is_attached_to_it(admin: Longshore, plane: Plane, layout: Path) -> None:
    pushed = admin("image", "push", layout, "acme/dev/promoted:1.4", "--json").json
    token = {"Authorization": f"Bearer {admin_key(admin)}"}
    attached = [attach(plane.url, token, "acme/dev/promoted", pushed["digest"], kind) for kind in ("a/sbom", "a/note")]
    signature = attach(plane.url, token, "acme/dev/promoted", attached[0], "a/signature")
    tagged = f"{pushed['digest'].replace(':', '-')}.sig"
    attach(plane.url, token, "acme/dev/promoted", pushed["digest"], "a/cosign", tagged)
    for target in ("acme/promoted:1.4", "acme/dev/promoted:stable"):
        copied = admin("image", "copy", "acme/dev/promoted:1.4", target, "--json")
        assert copied.json["digest"] == pushed["digest"]
    with httpx.Client(base_url=f"{plane.url}/v2/acme/promoted", headers=token) as there:
        for reference in ("1.4", pushed["digest"], *attached, signature, tagged):
            assert there.get(f"/manifests/{reference}").status_code == 200, reference
        document = there.get("/manifests/1.4").json()
        for part in (document["config"], *document["layers"]):
            assert there.head(f"/blobs/{part['digest']}").status_code == 200
    bare = admin("image", "copy", "acme/dev/promoted:1.4", "acme/bare:1", "--no-attached", "--json")
    assert bare.json["manifests"] == 1
    missing = admin("image", "copy", "acme/dev/promoted:2", "acme/bare:2")
    assert missing.code == 5
    assert "acme/dev/promoted has no manifest 2" in missing.err


def test_all_of_a_repository_goes_at_once(admin: Longshore, layout: Path) -> None:
    for tag in ("1", "2"):
        assert admin("image", "push", layout, f"acme/done:{tag}").code == 0
    refused = admin("image", "rm", "acme/done:1", "--all")
    assert refused.code == 2
    gone = admin("image", "rm", "acme/done", "--all", "--json").json
    assert (gone["removed"] >= 1, gone["kept"]) == (True, [])
    assert admin("image", "pull", "acme/done:1", "/nowhere/at/all").code != 0
    assert admin("image", "rm", "acme/never-there", "--all").code == 5


def attach(url: str, token: dict[str, str], repository: str, subject: str, kind: str, name: str = "") -> str:
    """An artifact that refers to the subject, or lies under a tag; its digest."""
    with httpx.Client(base_url=f"{url}/v2/{repository}", headers=token) as client:
        empty = Digest.of(b"{}")
        assert client.post(f"/blobs/uploads/?digest={empty}", content=b"{}").status_code == 201
        described = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": str(empty), "size": 2}
        media_type = "application/vnd.oci.image.manifest.v1+json"
        document = {"schemaVersion": 2, "mediaType": media_type, "artifactType": kind, "config": described}
        document["layers"] = [described]
        if not name:
            size = int(client.head(f"/manifests/{subject}").headers["Content-Length"])
            document["subject"] = {"mediaType": media_type, "digest": subject, "size": size}
        payload = json.dumps(document).encode()
        path = f"/manifests/{name or Digest.of(payload)}"
        assert client.put(path, content=payload, headers={"Content-Type": media_type}).status_code == 201
    return str(Digest.of(payload))
