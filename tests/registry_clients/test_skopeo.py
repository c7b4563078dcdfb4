"""skopeo (containers/image, as podman, buildah and CRI-O use it) pushes to us and pulls from us."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.engines.skopeo import Skopeo
from tests.registry_clients.layouts import blobs_of, write_image, write_index
from tests.registry_clients.serving import ServedRegistry

pytestmark = pytest.mark.engine("skopeo")


def copy_in(
    skopeo: Skopeo, served: ServedRegistry, layout: Path, name: str, *options: str, who: str = "ada:secret"
) -> CompletedProcess[str]:
    return skopeo.run(
        "copy", "--dest-tls-verify=false", f"--dest-creds={who}", *options, f"oci:{layout}", at(served, name)
    )


def copy_out(skopeo: Skopeo, served: ServedRegistry, name: str, target: Path, *options: str) -> CompletedProcess[str]:
    return skopeo.run(
        "copy", "--src-tls-verify=false", "--src-creds=vera:secret", *options, at(served, name), f"oci:{target}:x"
    )


def at(served: ServedRegistry, name: str) -> str:
    return f"docker://{served.address}/{name}"


def succeeded(done: CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_pushed_is_pulled_with_the_same_bytes(skopeo: Skopeo, served: ServedRegistry, tmp_path: Path) -> None:
    digest = write_image(tmp_path / "in", layers=4, layer_bytes=3_000_000)
    succeeded(copy_in(skopeo, served, tmp_path / "in", "acme/web:1.4"))
    succeeded(copy_out(skopeo, served, "acme/web:1.4", tmp_path / "out"))
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")
    succeeded(copy_out(skopeo, served, f"acme/web@{digest}", tmp_path / "again"))
    assert served.pending_uploads() == []


def test_an_image_is_inspected_listed_and_deleted(skopeo: Skopeo, served: ServedRegistry, tmp_path: Path) -> None:
    digest = write_image(tmp_path / "in")
    for tag in ("1.4", "1.5"):
        succeeded(copy_in(skopeo, served, tmp_path / "in", f"acme/web:{tag}"))
    reading = ("--tls-verify=false", "--creds=ada:secret")
    shown = json.loads(succeeded(skopeo.run("inspect", *reading, at(served, "acme/web:1.4"))))
    assert (shown["Digest"], shown["RepoTags"], shown["Os"]) == (digest, ["1.4", "1.5"], "linux")
    listed = json.loads(succeeded(skopeo.run("list-tags", *reading, at(served, "acme/web"))))
    assert listed["Tags"] == ["1.4", "1.5"]
    succeeded(skopeo.run("delete", *reading, at(served, "acme/web:1.4")))
    assert skopeo.run("inspect", *reading, at(served, "acme/web:1.4")).returncode != 0


def test_docker_schema_2_and_other_compressions_are_taken(
    skopeo: Skopeo, served: ServedRegistry, tmp_path: Path
) -> None:
    write_image(tmp_path / "in")
    succeeded(copy_in(skopeo, served, tmp_path / "in", "acme/docker:1", "--format=v2s2"))
    succeeded(copy_in(skopeo, served, tmp_path / "in", "acme/zstd:1", "--dest-compress-format=zstd"))
    raw = json.loads(
        succeeded(
            skopeo.run("inspect", "--raw", "--tls-verify=false", "--creds=ada:secret", at(served, "acme/docker:1"))
        )
    )
    assert raw["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"


def test_an_index_is_copied_with_all_its_images(skopeo: Skopeo, served: ServedRegistry, tmp_path: Path) -> None:
    write_index(tmp_path / "in", "amd64", "arm64")
    succeeded(copy_in(skopeo, served, tmp_path / "in", "acme/multi:1", "--all"))
    succeeded(copy_out(skopeo, served, "acme/multi:1", tmp_path / "out", "--all"))
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")
    succeeded(copy_out(skopeo, served, "acme/multi:1", tmp_path / "arm", "--override-arch=arm64"))
    assert len(blobs_of(tmp_path / "arm")) == 3


def test_a_copy_within_the_registry_stores_nothing_twice(
    skopeo: Skopeo, served: ServedRegistry, tmp_path: Path
) -> None:
    write_image(tmp_path / "in")
    succeeded(copy_in(skopeo, served, tmp_path / "in", "acme/web:1"))
    before = served.blob_files()
    options = (
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--src-creds=both:secret",
        "--dest-creds=both:secret",
    )
    succeeded(skopeo.run("copy", *options, at(served, "acme/web:1"), at(served, "birch/web:1")))
    assert served.blob_files() == before
    assert served.pending_uploads() == []


@pytest.mark.parametrize(
    ("who", "name", "words"),
    [
        ("ada:wrong", "acme/web:1", "wrong user name or password"),
        ("vera:secret", "acme/web:1", "may not push"),
        ("bob:secret", "acme/web:1", "may not push"),
        ("root:secret", "absent/web:1", "there is no repository"),
    ],
)
def test_a_refusal_says_why(
    skopeo: Skopeo, served: ServedRegistry, tmp_path: Path, who: str, name: str, words: str
) -> None:
    write_image(tmp_path / "in")
    done = copy_in(skopeo, served, tmp_path / "in", name, who=who)
    assert done.returncode != 0
    assert words in done.stderr
    assert served.blob_files() == []
