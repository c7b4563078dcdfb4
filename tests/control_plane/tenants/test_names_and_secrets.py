"""Names that can be used, and opaque secrets that can be read back; pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.tenants.model import (
    RegistryNameTaken,
    TenantNameInvalid,
    TenantSettings,
    UserNameInvalid,
    check_tenant_name,
    check_user_name,
)
from control_plane.tenants.opaque import OpaqueSecret


@pytest.mark.parametrize("name", ["acme", "a", "library", "acme-eu", "a.b_c__d---e", "0", "x" * 64])
def test_a_tenant_name_is_the_first_component_of_a_repository(name: str) -> None:
    assert check_tenant_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "Acme", "a/b", "..", ".a", "a.", "-a", "a___b", "a b", "ä", "a\x00", "a\n", "x" * 65, "admin", "api", "v2"],
)
def test_what_no_repository_can_begin_with_names_no_tenant(name: str) -> None:
    with pytest.raises(TenantNameInvalid):
        check_tenant_name(name)


@pytest.mark.parametrize("name", ["ada", "ada@example.org", "ci+bot", "a.b-c_d", "0", "x" * 64])
def test_a_user_name_may_be_an_address(name: str) -> None:
    assert check_user_name(name) == name


@pytest.mark.parametrize("name", ["", "Ada", "a:b", "a b", ".a", "a.", "a/b", "ä", "a\x00", "a\n", "x" * 65])
def test_a_user_name_fits_into_basic_credentials_and_addresses(name: str) -> None:
    with pytest.raises(UserNameInvalid):
        check_user_name(name)


def test_the_registrys_audience_is_not_the_apis() -> None:
    with pytest.raises(RegistryNameTaken):
        TenantSettings(registry_service="longshore:api")


@given(raw=st.binary(min_size=32, max_size=32), number=st.uuids())
def test_a_secret_reads_back_and_matches_its_hash_only(raw: bytes, number: object) -> None:
    secret = OpaqueSecret.generate(str(number), lambda size: raw)
    found = OpaqueSecret.parse("lsk_", secret.text("lsk_"))
    assert found == secret
    assert secret.matches(secret.hash)
    assert not secret.matches(OpaqueSecret(secret.id, "0" * 63 + "g").hash)
    assert secret.secret not in repr(secret)


@given(text=st.text(max_size=200))
def test_anything_else_is_no_secret(text: str) -> None:
    assert OpaqueSecret.parse("lsk_", text) is None
    assert OpaqueSecret.parse("lsk_", f"lsk_{text}") is None


def test_one_kind_of_secret_is_not_another() -> None:
    secret = OpaqueSecret.generate("00000000-0000-7000-8000-000000000001")
    assert OpaqueSecret.parse("lsk_", secret.text("lsr_")) is None
