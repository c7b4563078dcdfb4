from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.registry.remote.challenges import Challenge, parse_challenges, trusted_realm

HUB = "https://registry-1.docker.io"


def test_what_docker_hub_asks_is_understood() -> None:
    header = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/a:pull,push"'
    assert parse_challenges([header]) == (
        Challenge(
            "bearer",
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:library/a:pull,push",
            },
        ),
    )


def test_several_challenges_in_one_header_or_many() -> None:
    one = parse_challenges(['Basic realm="a, b", Bearer realm=c , service="d \\" e"'])
    many = parse_challenges(['Basic realm="a, b"', 'Bearer realm=c, service="d \\" e"'])
    assert (
        one
        == many
        == (
            Challenge("basic", {"realm": "a, b"}),
            Challenge("bearer", {"realm": "c", "service": 'd " e'}),
        )
    )


@given(st.lists(st.text(max_size=200), max_size=4))
def test_no_header_breaks_the_parser(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()


def test_a_long_header_is_read_in_time() -> None:
    parse_challenges(["Bearer " + 'a="' * 100_000, "Bearer " + "a=b," * 100_000, " " * 100_000])


@pytest.mark.parametrize(
    ("realm", "registry"),
    [
        ("https://auth.docker.io/token", HUB),
        ("https://registry.example.com/token", "https://registry.example.com"),
        ("https://registry.example.com:8443/token", "https://registry.example.com"),
        ("https://REGISTRY.example.com/token", "https://registry.example.com"),
        ("http://127.0.0.1:5000/token", "http://127.0.0.1:5000"),
        ("https://gitlab.com/jwt/auth", "https://registry.gitlab.com"),
    ],
)
def test_a_token_service_of_the_registry_is_trusted(realm: str, registry: str) -> None:
    assert trusted_realm(realm, registry)


@pytest.mark.parametrize(
    ("realm", "registry"),
    [
        ("https://evil.example/token", HUB),
        ("https://auth.docker.io.evil.example/token", HUB),
        ("https://evilauth.docker.io/token", HUB),
        ("http://auth.docker.io/token", HUB),
        ("https://auth.docker.io/token", "https://registry.example.com"),
        ("http://registry.example.com/token", "https://registry.example.com"),
        ("http://127.0.0.1:5001/token", "http://127.0.0.1:5000"),
        ("https://registry.example.com@evil.example/", "https://registry.example.com"),
        ("https://user@registry.example.com/", "https://registry.example.com"),
        ("https://registry.example.com.evil.example/", "https://registry.example.com"),
        ("https://example.com/", "https://registry.example.com"),
        ("/token", "https://registry.example.com"),
        ("", "https://registry.example.com"),
        ("https://[", "https://registry.example.com"),
        ("https://registry.example.com:x/", "https://registry.example.com"),
    ],
)
def test_a_stranger_is_not_trusted_with_the_password(realm: str, registry: str) -> None:
    assert not trusted_realm(realm, registry)


def test_who_gave_the_credentials_may_name_the_token_service() -> None:
    assert trusted_realm("https://auth.example.com/token", "https://registry.example.com", ["AUTH.example.com"])
    assert not trusted_realm("http://auth.example.com/token", "https://registry.example.com", ["auth.example.com"])
