from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.digest import Digest
from control_plane.registry.scopes import CATALOG, parse_blobs, parse_scopes, show_blob, show_scopes
from control_plane.tenants.access import RepositoryScope


def scope(name: str, *actions: str) -> RepositoryScope:
    return RepositoryScope(name, frozenset(actions))


@pytest.mark.parametrize(
    ("texts", "meant"),
    [
        ([], ()),
        (["repository:acme/web:pull"], (scope("acme/web", "pull"),)),
        (["repository:acme/web:pull,push"], (scope("acme/web", "pull", "push"),)),
        (["repository:acme/web:*"], (scope("acme/web", "pull", "push", "delete"),)),
        (["repository(plugin):acme/web:pull"], (scope("acme/web", "pull"),)),
        (["repository:acme/a:pull", "repository:acme/b:push"], (scope("acme/a", "pull"), scope("acme/b", "push"))),
        (["repository:acme/a:pull repository:acme/b:push"], (scope("acme/a", "pull"), scope("acme/b", "push"))),
        (["repository:acme/a:pull", "repository:acme/a:push"], (scope("acme/a", "pull", "push"),)),
        (["repository:acme/a:pull,squash"], (scope("acme/a", "pull"),)),
        (["registry:catalog:*"], (CATALOG,)),
        # A name with a host's port is split at the last colon; no repository of ours has one.
        (["repository:registry.example:5000/acme/web:pull"], ()),
        (["repository:acme/../etc:pull"], ()),
        (["repository:acme:pull"], ()),
        (["registry:other:*", "repository:acme/a", ":::", "repository", "x:y:z", ""], ()),
    ],
)
def test_scopes_are_read_as_the_specification_has_them(texts: list[str], meant: tuple[RepositoryScope, ...]) -> None:
    assert parse_scopes(texts) == meant


def test_scopes_are_written_as_they_are_read() -> None:
    scopes = (scope("acme/a", "push", "pull"), CATALOG)
    assert show_scopes(scopes) == "repository:acme/a:pull,push registry:catalog:*"
    assert parse_scopes([show_scopes(scopes)]) == scopes


def test_blobs_are_read_as_they_are_written_and_nothing_else_is() -> None:
    digests = (Digest.of(b"one"), Digest.of(b"two", "sha512"))
    shown = " ".join(show_blob(each) for each in (*digests, digests[0]))
    assert parse_blobs([f"repository:acme/a:pull {shown}"]) == digests
    assert parse_scopes([shown]) == ()
    of = digests[0].hex
    for odd in (f"blob:sha256-{of}:push", f"blob:sha256-{of}", "blob:sha256-../x:pull", f"blob:sha256-{of}-:pull"):
        assert parse_blobs([odd]) == ()


def test_no_more_than_a_bounded_number_is_read() -> None:
    assert len(parse_scopes([f"repository:acme/r{number}:pull" for number in range(1000)])) == 32


@given(st.lists(st.text()))
def test_nothing_that_is_sent_breaks_it(texts: list[str]) -> None:
    parse_blobs(texts)
    for found in parse_scopes(texts):
        assert found.actions <= {"pull", "push", "delete", "catalog"}
