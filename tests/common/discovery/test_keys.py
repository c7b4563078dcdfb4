"""Names in the directory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.discovery import keys
from common.discovery.etcd_requests import prefix_end


def test_the_keys_are_those_of_the_design() -> None:
    assert keys.region_info("east") == "/os/region/east/info"
    assert keys.region_heartbeat("east") == "/os/region/east/heartbeat"
    assert keys.host("east", "e1.rack-2") == "/os/east/hosts/e1.rack-2"
    assert keys.lock_prefix("sweeps") == "/os/locks/sweeps/"


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "../east", "region", "locks", "-a", "a-", "a" * 64, "a b", "é", "a\n"]
)
def test_a_name_that_would_leave_its_place_is_refused(name: str) -> None:
    with pytest.raises(keys.NameInvalid):
        keys.host(name, "e1")
    with pytest.raises(keys.NameInvalid):
        keys.region_info(name)


names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?", fullmatch=True).filter(
    lambda name: name not in ("region", "locks")
)


@given(idc=names, host=names)
def test_a_key_can_be_read_back(idc: str, host: str) -> None:
    assert keys.parse(keys.host(idc, host)) == keys.HostKey(idc, host)
    assert keys.parse(keys.region_info(idc)) == keys.RegionKey(idc, "info")
    assert keys.parse(keys.region_heartbeat(idc)) == keys.RegionKey(idc, "heartbeat")


@given(st.text(max_size=60))
def test_a_key_that_is_not_ours_is_nothing(text: str) -> None:
    assert keys.parse("/other" + text) is None


@given(prefix=st.text(min_size=1, max_size=20), rest=st.text(max_size=20), other=st.text(max_size=20))
def test_the_range_of_a_prefix_holds_exactly_what_begins_with_it(prefix: str, rest: str, other: str) -> None:
    end = prefix_end(prefix)
    assert prefix.encode() <= (prefix + rest).encode() < end
    assert (prefix.encode() <= other.encode() < end) == other.startswith(prefix)
