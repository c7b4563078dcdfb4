import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.digest import Digest
from common.reference import NameInvalid, Reference, TagInvalid, check_repository_name

DIGEST = "sha256:" + "a" * 64
names = st.from_regex(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+", fullmatch=True)
tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True)


@given(names.filter(lambda name: len(name) <= 255), tags)
def test_every_reference_reads_back_as_it_prints(name: str, tag: str) -> None:
    for reference in (Reference(name, tag), Reference(name, None, Digest.parse(DIGEST)), Reference(name, tag, None)):
        assert Reference.parse(str(reference)) == reference


def test_a_reference_without_tag_and_digest_means_latest() -> None:
    assert Reference.parse("acme/web") == Reference("acme/web", "latest")


def test_tag_and_digest_may_stand_together() -> None:
    reference = Reference.parse(f"acme/web:1@{DIGEST}")
    assert (reference.tag, str(reference.digest), reference.tenant) == ("1", DIGEST, "acme")


@pytest.mark.parametrize(
    "name",
    [
        "web",
        "Acme/web",
        "acme/../etc/passwd",
        "../../etc/passwd",
        "acme//web",
        "acme/web/",
        "/acme/web",
        "acme/we b",
        "acme/wéb",
        "acme/-web",
        "acme/web_",
        "acme/a___b",
        "acme/web\n",
        "acme/%2e%2e",
    ],
)
def test_what_is_no_repository_name_is_refused(name: str) -> None:
    with pytest.raises(NameInvalid, match="tenant/repository"):
        check_repository_name(name)


def test_a_repository_name_of_300_characters_is_refused_with_its_length() -> None:
    with pytest.raises(NameInvalid, match="300 characters"):
        check_repository_name("acme/" + "a" * 295)
    assert check_repository_name("acme/" + "a" * 250)


@pytest.mark.parametrize("tag", ["", "-a", ".a", "a" * 129, "a b", "tag\n"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(TagInvalid):
        Reference.parse(f"acme/web:{tag}")
