"""Cases of the OCI distribution specification 1.1 about pushing manifests; see `oci_distribution.py`."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.conformance.oci_registry import (
    EMPTY,
    EMPTY_TYPE,
    IMAGE,
    INDEX,
    LAYER,
    Pushed,
    RegistryUser,
    codes_of,
    encode,
    index_of,
    unique,
)

MEGABYTES_4 = 4 << 20


class ManifestCases:
    def test_the_answer_to_a_push_leads_to_the_manifest(self, user: RegistryUser) -> None:
        """Pushing Manifests: 201 and a `Location` that is a pullable manifest URL; the exact bytes are stored."""
        payload = encode(user.image_document()).replace(b":", b" : ", 3) + b"\n"
        pushed = user.manifest(payload)
        assert pushed.digest == user.digest(payload)
        answer = user.ask("GET", pushed.answer.headers["Location"])
        assert (answer.status_code, answer.content) == (200, payload)

    def test_parameters_of_its_type_are_ignored(self, user: RegistryUser) -> None:
        """Pushing Manifests: "The registry SHOULD ignore parameters on the `Content-Type` header"."""
        payload = encode(user.image_document())
        answer = user.ask("PUT", user.path("manifests", "one"), payload, Content_Type=f"{IMAGE}; charset=utf-8")
        assert answer.status_code == 201
        assert user.ask("GET", user.path("manifests", "one")).headers["Content-Type"] == IMAGE

    def test_a_type_that_the_manifest_contradicts_is_refused(self, user: RegistryUser) -> None:
        """Pushing Manifests: "clients MUST set the `Content-Type` header to the value ... of the `mediaType` field"."""
        payload = encode(user.image_document())
        answer = user.ask("PUT", user.path("manifests", "one"), payload, Content_Type=INDEX)
        assert (answer.status_code, codes_of(answer)) == (400, ["MANIFEST_INVALID"])

    def test_a_manifest_of_4_megabytes_is_taken_and_a_larger_one_is_413(self, user: RegistryUser) -> None:
        """Pushing Manifests: "SHOULD ... support manifest pushes of at least 4 megabytes"; 413 beyond the limit."""
        document = user.image_document()
        room = MEGABYTES_4 - len(encode({**document, "annotations": {"a": ""}}))
        payload = encode({**document, "annotations": {"a": "x" * room}})
        assert len(payload) == MEGABYTES_4
        user.manifest(payload, "large")
        assert user.ask("GET", user.path("manifests", "large")).content == payload
        larger = payload + b" "
        answer = user.ask("PUT", user.path("manifests", "larger"), larger, Content_Type=IMAGE)
        assert (answer.status_code, codes_of(answer)) == (413, ["SIZE_INVALID"])

    def test_a_digest_that_is_not_the_manifests_is_refused(self, user: RegistryUser) -> None:
        """Pushing Manifests: "MUST be equal to the client provided digest"."""
        payload = encode(user.image_document())
        digest = user.digest(payload)
        answer = user.ask("PUT", user.path("manifests", digest), payload + b"  ", Content_Type=IMAGE)
        assert (answer.status_code, codes_of(answer)) == (400, ["DIGEST_INVALID"])
        assert user.ask("GET", user.path("manifests", digest)).status_code == 404

    def test_an_image_without_its_blobs_is_refused_with_their_names(self, user: RegistryUser) -> None:
        """Push: a registry that rejects "MUST return one or more `MANIFEST_BLOB_UNKNOWN` errors"."""
        document = user.image_document(2)
        document["layers"] += [user.describe(unique(), LAYER), user.describe(unique(), LAYER)]
        answer = user.ask("PUT", user.path("manifests", "one"), encode(document), Content_Type=IMAGE)
        if user.target.takes_incomplete_images:
            assert answer.status_code == 201
            return
        assert (answer.status_code, codes_of(answer)) == (400, ["MANIFEST_BLOB_UNKNOWN"] * 2)
        assert user.ask("GET", user.path("manifests", "one")).status_code == 404

    def test_an_index_of_images_that_are_here_elsewhere_or_nowhere(self, user: RegistryUser) -> None:
        """Push: "A registry MAY reject a manifest" that refers to what is missing; we take indexes."""
        absent = {"mediaType": IMAGE, "digest": str(user.digest(unique())), "size": 1024}
        for children in ([user.image(), user.image()], []):
            index = index_of(*children)
            index["manifests"].append(absent)
            pushed = user.manifest(index, "sparse")
            assert user.ask("GET", user.path("manifests", "sparse")).content == pushed.payload
        assert user.ask("GET", user.path("manifests", absent["digest"])).status_code == 404

    def test_an_index_may_be_empty_or_of_indexes(self, user: RegistryUser) -> None:
        """Image specification, image-index.md: `manifests` "MUST be present, but the size of the array MAY be zero"."""
        outer = index_of(user.manifest(index_of(user.image())), user.manifest(index_of()))
        pushed = user.manifest(outer, "outer")
        answer = user.ask("GET", user.path("manifests", "outer"), Accept=INDEX)
        assert (answer.content, answer.headers["Content-Type"]) == (pushed.payload, INDEX)

    @pytest.mark.parametrize("kind", ["no layers", "data", "elsewhere", "custom", "empty config"])
    def test_what_an_image_may_be(self, user: RegistryUser, kind: str) -> None:
        """Image specification, manifest.md and descriptor.md; Pushing Manifests: "the list of blobs MAY be empty"."""
        pushed = user.manifest(self._odd(user, kind), "odd")
        assert user.ask("GET", user.path("manifests", "odd")).content == pushed.payload

    @staticmethod
    def _odd(user: RegistryUser, kind: str) -> dict[str, Any]:
        document = user.image_document(0 if kind == "no layers" else 1)
        if kind == "data":
            user.blob(EMPTY)
            embedded = base64.b64encode(EMPTY).decode()
            document["config"] = user.describe(EMPTY, EMPTY_TYPE, data=embedded)
        elif kind == "elsewhere":
            far = "application/vnd.oci.image.layer.nondistributable.v1.tar"
            document["layers"].append(user.describe(unique(), far, urls=["https://example.com/far"]))
        elif kind == "custom":
            document |= {"org.example.custom": {"a": [1, None, 1.5]}, "artifactType": "application/vnd.example"}
        elif kind == "empty config":
            user.blob(EMPTY)
            document |= {"config": user.describe(EMPTY, EMPTY_TYPE), "artifactType": "application/vnd.example"}
        return document

    def test_embedded_data_that_is_something_else_is_refused(self, user: RegistryUser) -> None:
        """Image specification, descriptor.md: "The data ... MUST be identical to the content"."""
        document = user.image_document()
        document["config"]["data"] = base64.b64encode(b"something else").decode()
        answer = user.ask("PUT", user.path("manifests", "one"), encode(document), Content_Type=IMAGE)
        assert (answer.status_code, codes_of(answer)) == (400, ["MANIFEST_INVALID"])

    @pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'"x"', b"{}", b'{"schemaVersion":1}', b"\xff\xfe"])
    def test_what_is_no_manifest_is_refused(self, user: RegistryUser, payload: bytes) -> None:
        """Error Codes: MANIFEST_INVALID."""
        answer = user.ask("PUT", user.path("manifests", "one"), payload, Content_Type=IMAGE)
        assert (answer.status_code, codes_of(answer)) == (400, ["MANIFEST_INVALID"])

    def test_a_tag_moves_and_several_come_with_one_push(self, user: RegistryUser) -> None:
        """Version 1.2, "Pushing Manifests": `?tag=` with a push by digest, answered by `OCI-Tag`."""
        first: Pushed = user.image("moving")
        payload = encode(user.image_document())
        path = user.path("manifests", user.digest(payload)) + "?tag=moving&tag=second&tag=third"
        answer = user.ask("PUT", path, payload, Content_Type=IMAGE)
        assert answer.status_code == 201
        assert set(answer.headers.get_list("OCI-Tag", split_commas=True)) == {"moving", "second", "third"}
        for tag in ("moving", "second", "third"):
            assert user.ask("GET", user.path("manifests", tag)).content == payload
        assert user.ask("GET", user.path("manifests", first.digest)).content == first.payload
        refused = user.ask("PUT", path + "".join(f"&tag=t{n}" for n in range(99)), payload, Content_Type=IMAGE)
        assert (refused.status_code, codes_of(refused)) == (414, ["TAG_INVALID"])
