"""What is taken for a manifest, and everything that only looks like one."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.digest import Digest
from common.errors import Failure
from control_plane.registry.failures import ManifestInvalid, ManifestTooLarge
from control_plane.registry.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_BYTES,
    MAX_CHILDREN,
    MAX_LAYERS,
    OCI_INDEX,
    OCI_MANIFEST,
    parse_manifest,
)
from tests.control_plane.registry.people import descriptor, encode, image_manifest, index_manifest

CONFIG, LAYER = b'{"config": 1}', b"layer"


def changed(payload: bytes, **changes: Any) -> bytes:
    document = json.loads(payload)
    for key, value in changes.items():
        if value is None:
            del document[key]
        else:
            document[key] = value
    return encode(document)


IMAGE = image_manifest(CONFIG, [LAYER])
INDEX = index_manifest([(IMAGE, "amd64")])


def test_an_image_lists_its_config_and_its_layers_in_order() -> None:
    parsed = parse_manifest(image_manifest(CONFIG, [b"one", b"two"]), OCI_MANIFEST)
    assert [each.digest for each in parsed.blobs] == [Digest.of(each) for each in (CONFIG, b"one", b"two")]
    assert parsed.required == parsed.blobs
    assert not parsed.is_index


def test_an_index_chooses_by_platform() -> None:
    other = image_manifest(CONFIG, [b"arm"])
    parsed = parse_manifest(index_manifest([(IMAGE, "amd64"), (other, "arm64")]), OCI_INDEX)
    assert parsed.is_index
    chosen = parsed.child_for("arm64", "linux")
    assert chosen is not None
    assert chosen.digest == Digest.of(other)
    assert parsed.child_for("arm64", "windows") is None


def test_docker_types_are_taken() -> None:
    assert parse_manifest(changed(IMAGE, mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST).media_type == DOCKER_MANIFEST
    assert parse_manifest(changed(INDEX, mediaType=DOCKER_LIST), DOCKER_LIST).is_index


def test_an_oci_manifest_may_leave_its_type_to_the_header() -> None:
    bare = changed(IMAGE, mediaType=None)
    assert parse_manifest(bare, f"{OCI_MANIFEST}; charset=utf-8").media_type == OCI_MANIFEST
    assert parse_manifest(IMAGE, None).media_type == OCI_MANIFEST
    with pytest.raises(ManifestInvalid):
        parse_manifest(bare, None)
    with pytest.raises(ManifestInvalid):
        parse_manifest(bare, DOCKER_MANIFEST)


def test_layers_with_addresses_of_their_own_are_not_required() -> None:
    foreign = descriptor(
        b"far", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", urls=["https://example.com/far"]
    )
    without = descriptor(b"near", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    parsed = parse_manifest(changed(IMAGE, layers=[foreign, without]), OCI_MANIFEST)
    assert [each.digest for each in parsed.required] == [Digest.of(CONFIG), Digest.of(b"near")]
    assert len(parsed.blobs) == 3


def test_a_foreign_layer_does_not_excuse_the_same_content_elsewhere() -> None:
    foreign = descriptor(CONFIG, "application/vnd.oci.image.layer.nondistributable.v1.tar", urls=["https://e.com/x"])
    parsed = parse_manifest(changed(IMAGE, layers=[foreign]), OCI_MANIFEST)
    assert [each.digest for each in parsed.required] == [Digest.of(CONFIG)]


def test_a_subject_and_an_artifact_type_are_read() -> None:
    parsed = parse_manifest(
        changed(IMAGE, subject=descriptor(b"x", OCI_MANIFEST), artifactType="application/vnd.example"), OCI_MANIFEST
    )
    assert parsed.subject is not None
    assert parsed.subject.digest == Digest.of(b"x")
    assert parsed.artifact_type == "application/vnd.example"
    assert parse_manifest(IMAGE, OCI_MANIFEST).artifact_type == "application/vnd.oci.image.config.v1+json"


def test_no_layers_no_children_and_unknown_fields_are_fine() -> None:
    assert len(parse_manifest(image_manifest(CONFIG, []), OCI_MANIFEST).blobs) == 1
    assert parse_manifest(index_manifest([]), OCI_INDEX).children == ()
    parse_manifest(changed(IMAGE, somethingElse={"a": [1]}, annotations={"k": "v"}), OCI_MANIFEST)


def test_embedded_data_must_be_the_content() -> None:
    true = descriptor(b"data", data=base64.b64encode(b"data").decode())
    assert parse_manifest(changed(IMAGE, layers=[true]), OCI_MANIFEST)
    for false in (base64.b64encode(b"else").decode(), "%%%", 7, base64.b64encode(b"data!").decode()):
        with pytest.raises(ManifestInvalid):
            parse_manifest(changed(IMAGE, layers=[{**true, "data": false}]), OCI_MANIFEST)


_LAYER = descriptor(LAYER)
_TWICE = IMAGE[:-1] + b',"schemaVersion":2}'
_BAD: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{", OCI_MANIFEST),
    "empty": (b"", OCI_MANIFEST),
    "not UTF-8": (b'{"a": "\xff"}', OCI_MANIFEST),
    "UTF-16": (IMAGE.decode().encode("utf-16"), OCI_MANIFEST),
    "byte order mark": (b"\xef\xbb\xbf" + IMAGE, OCI_MANIFEST),
    "a list": (b"[]", OCI_MANIFEST),
    "a number too long to read": (b'{"schemaVersion":' + b"1" * 5000 + b"}", OCI_MANIFEST),
    "NaN": (IMAGE[:-1] + b',"x":NaN}', OCI_MANIFEST),
    "nested beyond the parser": (b"[" * 100_000, OCI_MANIFEST),
    "nested deeply": (IMAGE[:-1] + b',"x":' + b"[" * 40 + b"]" * 40 + b"}", OCI_MANIFEST),
    "a key twice": (_TWICE, OCI_MANIFEST),
    "layers and manifests (CVE-2021-41190)": (changed(IMAGE, manifests=[]), OCI_MANIFEST),
    "manifests and layers (CVE-2021-41190)": (changed(INDEX, layers=[]), OCI_INDEX),
    "index with config": (changed(INDEX, config=_LAYER), OCI_INDEX),
    "schema 1 in schema 2": (changed(IMAGE, fsLayers=[]), OCI_MANIFEST),
    "schema version 1": (changed(IMAGE, schemaVersion=1), OCI_MANIFEST),
    "schema version true": (changed(IMAGE, schemaVersion=True), OCI_MANIFEST),
    "schema version text": (changed(IMAGE, schemaVersion="2"), OCI_MANIFEST),
    "no schema version": (changed(IMAGE, schemaVersion=None), OCI_MANIFEST),
    "header says index": (IMAGE, OCI_INDEX),
    "type is a number": (changed(IMAGE, mediaType=5), OCI_MANIFEST),
    "type unknown": (changed(IMAGE, mediaType="application/json"), "application/json"),
    "header unknown": (changed(IMAGE, mediaType=None), "text/plain"),
    "no config": (changed(IMAGE, config=None), OCI_MANIFEST),
    "config is a list": (changed(IMAGE, config=[]), OCI_MANIFEST),
    "no layers": (changed(IMAGE, layers=None), OCI_MANIFEST),
    "layers is an object": (changed(IMAGE, layers={}), OCI_MANIFEST),
    "layer is a string": (changed(IMAGE, layers=["sha256:x"]), OCI_MANIFEST),
    "no media type": (changed(IMAGE, layers=[{**_LAYER, "mediaType": ""}]), OCI_MANIFEST),
    "media type is no type": (changed(IMAGE, layers=[{**_LAYER, "mediaType": "a/b/c\n"}]), OCI_MANIFEST),
    "digest is a path": (changed(IMAGE, layers=[{**_LAYER, "digest": "sha256:../../x"}]), OCI_MANIFEST),
    "digest upper case": (changed(IMAGE, layers=[{**_LAYER, "digest": "sha256:" + "A" * 64}]), OCI_MANIFEST),
    "digest missing": (changed(IMAGE, layers=[{"mediaType": "a/b", "size": 1}]), OCI_MANIFEST),
    "size negative": (changed(IMAGE, layers=[{**_LAYER, "size": -1}]), OCI_MANIFEST),
    "size true": (changed(IMAGE, layers=[{**_LAYER, "size": True}]), OCI_MANIFEST),
    "size a fraction": (changed(IMAGE, layers=[{**_LAYER, "size": 1.5}]), OCI_MANIFEST),
    "size beyond 63 bits": (changed(IMAGE, layers=[{**_LAYER, "size": 1 << 63}]), OCI_MANIFEST),
    "urls of a file": (changed(IMAGE, layers=[{**_LAYER, "urls": ["file:///etc/passwd"]}]), OCI_MANIFEST),
    "urls a string": (changed(IMAGE, layers=[{**_LAYER, "urls": "https://e.com"}]), OCI_MANIFEST),
    "too many urls": (changed(IMAGE, layers=[{**_LAYER, "urls": ["https://e.com"] * 33}]), OCI_MANIFEST),
    "annotations a list": (changed(IMAGE, annotations=[]), OCI_MANIFEST),
    "annotation a number": (changed(IMAGE, annotations={"a": 1}), OCI_MANIFEST),
    "layer annotation a number": (changed(IMAGE, layers=[{**_LAYER, "annotations": {"a": 1}}]), OCI_MANIFEST),
    "artifact type a number": (changed(IMAGE, artifactType=1), OCI_MANIFEST),
    "subject without size": (changed(IMAGE, subject={"mediaType": "a/b", "digest": _LAYER["digest"]}), OCI_MANIFEST),
    "platform a string": (changed(INDEX, manifests=[{**_LAYER, "platform": "linux"}]), OCI_INDEX),
    "platform with numbers": (changed(INDEX, manifests=[{**_LAYER, "platform": {"os": 1}}]), OCI_INDEX),
    "too many layers": (changed(IMAGE, layers=[_LAYER] * (MAX_LAYERS + 1)), OCI_MANIFEST),
    "too many children": (changed(INDEX, manifests=[_LAYER] * (MAX_CHILDREN + 1)), OCI_INDEX),
    "Docker without its type": (changed(IMAGE, mediaType=None), DOCKER_MANIFEST),
}


@pytest.mark.parametrize("case", sorted(_BAD))
def test_what_is_not_exactly_one_manifest_is_refused(case: str) -> None:
    payload, content_type = _BAD[case]
    with pytest.raises(ManifestInvalid) as refused:
        parse_manifest(payload, content_type)
    assert refused.value.action


def test_the_size_is_bounded() -> None:
    padding = "A" * (MAX_BYTES - len(changed(IMAGE, annotations={"a": ""})))
    assert parse_manifest(changed(IMAGE, annotations={"a": padding}), OCI_MANIFEST)
    with pytest.raises(ManifestTooLarge):
        parse_manifest(changed(IMAGE, annotations={"a": padding + "A"}), OCI_MANIFEST)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["layers", "config", "size"]), inner),
)


@given(_json, st.sampled_from([OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, None, "text/plain"]))
def test_no_document_does_more_than_be_refused(document: Any, content_type: str | None) -> None:
    with contextlib.suppress(Failure):
        parse_manifest(json.dumps(document).encode(), content_type)


@given(st.sampled_from([IMAGE, INDEX]), st.data())
def test_no_single_change_of_a_manifest_does_more_than_be_refused(payload: bytes, data: st.DataObject) -> None:
    document = json.loads(payload)
    place: Any = document
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(_json)
            break
        place = place[key]
    with contextlib.suppress(Failure):
        parse_manifest(json.dumps(document).encode(), None)
