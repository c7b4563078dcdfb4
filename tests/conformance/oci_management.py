"""Cases of the OCI distribution specification 1.1 about content management; see `oci_distribution.py`."""

from __future__ import annotations

import pytest

from tests.conformance.oci_registry import RegistryUser, codes_of, index_of, names_of, unique

SBOM = "application/vnd.example.sbom"


class ManagementCases:
    def test_a_tag_is_deleted_and_its_manifest_stays(self, user: RegistryUser) -> None:
        """Deleting tags: 202; "Once deleted, a `GET` ... will return a 404"."""
        image = user.image("one")
        user.manifest(image.payload, "two")
        assert user.ask("DELETE", user.path("manifests", "one")).status_code == 202
        assert user.ask("GET", user.path("manifests", "one")).status_code == 404
        for reference in ("two", image.digest):
            assert user.ask("GET", user.path("manifests", reference)).content == image.payload
        assert user.ask("GET", user.path("tags", "list")).json()["tags"] == ["two"]

    def test_a_manifest_is_deleted_with_its_tags(self, user: RegistryUser) -> None:
        """Deleting Manifests: 202; a GET of the digest "and any tag pointing to that digest will return a 404"."""
        image = user.image("one")
        user.manifest(image.payload, "two")
        assert user.ask("DELETE", user.path("manifests", image.digest)).status_code == 202
        for reference in ("one", "two", image.digest):
            for method in ("GET", "HEAD", "DELETE"):
                assert user.ask(method, user.path("manifests", reference)).status_code == 404
        assert user.ask("GET", user.path("tags", "list")).json()["tags"] == []

    def test_a_blob_is_deleted(self, user: RegistryUser) -> None:
        """Deleting Blobs: 202, then "If the blob is not found, a `404 Not Found` code MUST be returned"."""
        path = user.path("blobs", user.blob(unique()))
        assert user.ask("DELETE", path).status_code == 202
        for method in ("GET", "HEAD", "DELETE"):
            assert user.ask(method, path).status_code == 404

    def test_a_blob_that_an_image_needs_is_not_deleted(self, user: RegistryUser) -> None:
        """Deleting Blobs: "Registries MAY implement deletion or they MAY disable it"; never under an image."""
        document = user.image_document()
        image = user.manifest(document)
        path = user.path("blobs", document["layers"][0]["digest"])
        answer = user.ask("DELETE", path)
        assert (answer.status_code, codes_of(answer)) == (409, ["DENIED"])
        assert user.ask("GET", path).status_code == 200
        user.ask("DELETE", user.path("manifests", image.digest))
        assert user.ask("DELETE", path).status_code == 202

    @pytest.mark.parametrize("kind", ["tag", "digest", "blob"])
    def test_nothing_is_deleted_where_nothing_is(self, user: RegistryUser, kind: str) -> None:
        """Deleting Manifests: "If the repository does not exist, the response MUST return `404 Not Found`"."""
        digest = user.digest(unique())
        path = user.path(
            *{"tag": ("manifests", "one"), "digest": ("manifests", digest), "blob": ("blobs", digest)}[kind]
        )
        assert user.ask("DELETE", path).status_code == 404
        user.blob(b"to make the repository")
        assert user.ask("DELETE", path).status_code == 404

    def test_referrers_end_with_themselves_and_outlive_their_subject(self, user: RegistryUser) -> None:
        """Deleting Manifests; Listing Referrers: what is there and names the subject."""
        image = user.image()
        first, second = user.artifact(image.descriptor, SBOM), user.artifact(image.descriptor, SBOM)
        path = user.path("referrers", image.digest)
        user.ask("DELETE", user.path("manifests", first.digest))
        assert names_of(user.ask("GET", path).json()["manifests"]) == [str(second.digest)]
        user.ask("DELETE", user.path("manifests", image.digest))
        assert names_of(user.ask("GET", path).json()["manifests"]) == [str(second.digest)]

    def test_an_index_outlives_its_images(self, user: RegistryUser) -> None:
        """Deleting Manifests: nothing but the manifest and its tags goes."""
        image = user.image()
        index = user.manifest(index_of(image), "index")
        assert user.ask("DELETE", user.path("manifests", image.digest)).status_code == 202
        assert user.ask("GET", user.path("manifests", "index")).content == index.payload

    def test_what_was_deleted_can_be_pushed_again(self, user: RegistryUser) -> None:
        """Deletion is no memory."""
        content = unique()
        path = user.path("blobs", user.blob(content))
        user.ask("DELETE", path)
        user.blob(content)
        assert user.ask("GET", path).content == content
        image = user.image("one")
        user.ask("DELETE", user.path("manifests", image.digest))
        user.manifest(image.payload, "one")
        assert user.ask("GET", user.path("manifests", "one")).content == image.payload

    def test_a_method_that_means_nothing_is_405(self, user: RegistryUser) -> None:
        """RFC 9110: "The origin server MUST generate an `Allow` header field in a 405 response"."""
        for method, path in (("POST", "manifests/one"), ("PUT", "tags/list"), ("DELETE", "referrers/x")):
            answer = user.ask(method, user.path(path))
            assert (answer.status_code, codes_of(answer)) == (405, ["UNSUPPORTED"])
            assert "GET" in answer.headers["Allow"]

    def test_pages_of_other_origins_are_told_nothing(self, user: RegistryUser) -> None:
        """No CORS: browsers have no business with a registry that cookies do not open."""
        for method, path in (("GET", "/v2/"), ("OPTIONS", "/v2/")):
            answer = user.ask(method, path, Origin="https://elsewhere.example")
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
