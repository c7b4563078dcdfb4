"""Cases of the OCI distribution specification 1.1 about content discovery; see `oci_distribution.py`."""

from __future__ import annotations

import pytest

from tests.conformance.oci_registry import (
    EMPTY_TYPE,
    IMAGE,
    INDEX,
    RegistryUser,
    all_pages,
    codes_of,
    index_of,
    names_of,
    unique,
)

SBOM, SIGNATURE = "application/vnd.example.sbom", "application/vnd.example.signature"
TAGS = ["1", "10", "2", "A", "_x", "a", "a-b", "a.b", "b"]


class ListingCases:
    @pytest.fixture
    def tagged(self, user: RegistryUser) -> RegistryUser:
        image = user.image("seed")
        for tag in [*reversed(TAGS[4:]), *TAGS[:4]]:
            user.manifest(image.payload, tag)
        user.ask("DELETE", user.path("manifests", "seed"))
        return user

    def test_tags_are_listed_in_order(self, tagged: RegistryUser) -> None:
        """Listing Tags: 200, `name` and `tags`, "in lexical ... or ASCIIbetical order"."""
        answer = tagged.ask("GET", tagged.path("tags", "list"))
        assert answer.status_code == 200
        assert answer.json() == {"name": tagged.repository, "tags": TAGS}
        assert "Link" not in answer.headers

    @pytest.mark.parametrize("count", [1, 2, 4, 8, 9, 10, 10**9, 10**17])
    def test_a_page_has_as_many_tags_as_asked(self, tagged: RegistryUser, count: int) -> None:
        """Listing Tags: "the response MUST include `<int>` results"; `Link` "MUST be set according to RFC5988"."""
        path = tagged.path("tags", "list") + f"?n={count}"
        answer = tagged.ask("GET", path)
        assert answer.json()["tags"] == TAGS[:count]
        assert ("next" in answer.links) == (count < len(TAGS))
        assert all_pages(tagged, path, "tags") == TAGS

    def test_a_page_of_none_is_empty_without_link(self, tagged: RegistryUser) -> None:
        """Listing Tags: "When `n` is zero, ... MUST return an empty list, and MUST NOT include a `Link` header"."""
        answer = tagged.ask("GET", tagged.path("tags", "list") + "?n=0")
        assert (answer.status_code, answer.json()["tags"]) == (200, [])
        assert "Link" not in answer.headers

    @pytest.mark.parametrize("count", ["-1", "x", "1.5", "", "1e3", "9" * 40])
    def test_a_count_that_is_none_is_refused(self, tagged: RegistryUser, count: str) -> None:
        """Listing Tags: `n` is "an integer specifying the number of tags requested"."""
        answer = tagged.ask("GET", tagged.path("tags", "list") + f"?n={count}")
        assert (answer.status_code, codes_of(answer)) == (400, ["PAGINATION_NUMBER_INVALID"])

    @pytest.mark.parametrize("last", [*TAGS, "0", "zzz", "a%00", "%F0%9F%92%A9"])
    def test_a_page_begins_after_the_last(self, tagged: RegistryUser, last: str) -> None:
        """Listing Tags: "`<tagname>` will not be included in the results"; "the `n` parameter is OPTIONAL"."""
        expected = [tag for tag in TAGS if tag > last.partition("%00")[0].replace("%F0%9F%92%A9", "\U0001f4a9")]
        for query, wanted in ((f"?last={last}", expected), (f"?n=2&last={last}", expected[:2])):
            assert tagged.ask("GET", tagged.path("tags", "list") + query).json()["tags"] == wanted

    def test_a_repository_without_tags_has_an_empty_list(self, user: RegistryUser) -> None:
        """Listing Tags: "The list of tags MAY be empty"."""
        user.image()
        answer = user.ask("GET", user.path("tags", "list"))
        assert (answer.status_code, answer.json()["tags"]) == (200, [])

    def test_the_catalogue_pages_like_tags(self, user: RegistryUser) -> None:
        """Not in the specification; as distribution has it."""
        for name in (user.repository, user.other):
            user.blob(b"x", name)
        names = all_pages(user, "/v2/_catalog?n=3", "repositories")
        assert names == sorted(names)
        assert {user.repository, user.other} <= set(names)

    def test_referrers_are_an_index_of_descriptors(self, user: RegistryUser) -> None:
        """Listing Referrers: 200, an image index, `artifactType` and annotations of each."""
        image = user.image("subject")
        sbom = user.artifact(image.descriptor, SBOM, annotations={"org.example.format": "json", "unicode": "é"})
        plain = user.artifact(image.descriptor, None)
        listing = user.manifest(index_of(image, subject=image.descriptor, annotations={"k": "v"}))
        typed = user.manifest(index_of(subject=image.descriptor, artifactType=SIGNATURE))
        answer = user.ask("GET", user.path("referrers", image.digest))
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, INDEX)
        document = answer.json()
        assert (document["schemaVersion"], document["mediaType"]) == (2, INDEX)
        found = {each["digest"]: each for each in document["manifests"]}
        assert set(found) == {str(each.digest) for each in (sbom, plain, listing, typed)}
        assert found[str(sbom.digest)] == {
            **sbom.descriptor,
            "artifactType": SBOM,
            "annotations": {"org.example.format": "json", "unicode": "é"},
        }
        assert found[str(plain.digest)]["artifactType"] == EMPTY_TYPE
        assert found[str(listing.digest)] == {**listing.descriptor, "annotations": {"k": "v"}}
        assert found[str(typed.digest)]["artifactType"] == SIGNATURE

    def test_a_push_with_a_subject_says_so(self, user: RegistryUser) -> None:
        """Pushing Manifests with Subject: "MUST respond with the response header `OCI-Subject`"; it may be missing."""
        absent = {"mediaType": IMAGE, "digest": str(user.digest(unique())), "size": 7}
        pushed = user.artifact(absent, SBOM)
        assert pushed.answer.headers["OCI-Subject"] == absent["digest"]
        assert "OCI-Subject" not in user.image().answer.headers
        answer = user.ask("GET", user.path("referrers", absent["digest"]))
        assert names_of(answer.json()["manifests"]) == [str(pushed.digest)]

    def test_referrers_are_filtered_by_type(self, user: RegistryUser) -> None:
        """Listing Referrers: "the response MUST include a header `OCI-Filters-Applied: artifactType`"."""
        image = user.image()
        pushed = {kind: user.artifact(image.descriptor, kind) for kind in (SBOM, SIGNATURE)}
        for kind, artifact in pushed.items():
            answer = user.ask("GET", user.path("referrers", image.digest) + f"?artifactType={kind}")
            assert answer.headers["OCI-Filters-Applied"] == "artifactType"
            assert names_of(answer.json()["manifests"]) == [str(artifact.digest)]
        answer = user.ask("GET", user.path("referrers", image.digest) + "?artifactType=application/absent")
        assert (answer.status_code, answer.json()["manifests"]) == (200, [])
        assert "OCI-Filters-Applied" not in user.ask("GET", user.path("referrers", image.digest)).headers

    def test_nothing_refers_to_what_nobody_pushed(self, user: RegistryUser) -> None:
        """Listing Referrers: "MUST NOT return a 404"; "an empty manifest list MUST be returned"."""
        for _ in range(2):
            answer = user.ask("GET", user.path("referrers", user.digest(unique())))
            assert (answer.status_code, answer.json()["manifests"]) == (200, [])
            user.image()

    def test_many_referrers_come_in_linked_pages(self, user: RegistryUser) -> None:
        """Listing Referrers: "A `Link` header MUST be included" when there are more."""
        image = user.image()
        expected = {str(user.artifact(image.descriptor, SBOM).digest) for _ in range(5)}
        user.artifact(image.descriptor, SIGNATURE)
        path = user.path("referrers", image.digest) + f"?n=2&artifactType={SBOM}"
        found = names_of(all_pages(user, path, "manifests"))
        assert (len(found), set(found)) == (5, expected)

    def test_heavy_referrers_come_in_pages_that_clients_take(self, user: RegistryUser) -> None:
        """Listing Referrers: "when the descriptor list cannot be returned in a single manifest"."""
        image = user.image()
        heavy = {"a": "x" * 1_900_000}
        expected = {str(user.artifact(image.descriptor, f"{SBOM}{n}", annotations=heavy).digest) for n in range(3)}
        answer = user.ask("GET", user.path("referrers", image.digest))
        assert len(answer.content) <= 4 << 20
        assert "next" in answer.links
        assert set(names_of(all_pages(user, user.path("referrers", image.digest), "manifests"))) == expected

    def test_the_tag_schema_of_older_clients_works(self, user: RegistryUser) -> None:
        """Referrers Tag Schema: an index under the tag `sha256-<hex>`."""
        image = user.image()
        artifact = user.artifact(image.descriptor, SBOM)
        tag = str(image.digest).replace(":", "-")[:128]
        listing = user.manifest(index_of(artifact), tag)
        assert user.ask("GET", user.path("manifests", tag)).content == listing.payload
