"""The settings are libtorrent's own words, and they keep the peer alone on its network."""

from __future__ import annotations

import libtorrent as lt
import pytest

from common.bittorrent import AGENT_FINGERPRINT
from common.bittorrent.lan_settings import session_settings


def test_every_setting_is_known_to_libtorrent_with_that_type():
    known = lt.default_settings()
    for name, value in session_settings("10.0.0.1", 6881, AGENT_FINGERPRINT).items():
        assert type(known[name]) is type(value), name


def test_nobody_is_asked_but_trackers():
    settings = session_settings("10.0.0.1", 6881, AGENT_FINGERPRINT)
    for name in ("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_outgoing_utp"):
        assert settings[name] is False
    assert settings["webtorrent_stun_server"] == ""


@pytest.mark.parametrize(
    ("host", "interface", "guarded"),
    [
        ("127.0.0.1", "127.0.0.1:7", False),
        ("::1", "[::1]:7", False),
        ("10.1.2.3", "10.1.2.3:7", True),
        ("0.0.0.0", "0.0.0.0:7", True),
        ("fd00::1", "[fd00::1]:7", True),
    ],
)
def test_only_loopback_listeners_may_ask_loopback(host, interface, guarded):
    settings = session_settings(host, 7, AGENT_FINGERPRINT)
    assert settings["listen_interfaces"] == interface
    assert settings["ssrf_mitigation"] is guarded


def test_what_is_no_address_or_fingerprint_is_refused():
    with pytest.raises(ValueError, match="localhost"):
        session_settings("localhost", 7, AGENT_FINGERPRINT)
    with pytest.raises(ValueError, match="fingerprint"):
        session_settings("127.0.0.1", 7, b"-LA-")
