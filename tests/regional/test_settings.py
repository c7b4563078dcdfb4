"""The configuration: where it comes from, what it refuses, and that secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from regional.settings import RegionalSettings, SettingsInvalid, load_settings


def test_the_defaults_are_the_documented_ones_and_on_loopback() -> None:
    settings = load_settings({"idc": "east"}, {})
    assert (settings.server_ip, settings.api_port, str(settings.static_root)) == ("127.0.0.1", 8081, "/tftpboot")
    assert (settings.interface, settings.server, settings.etcd_endpoints) == ("eth1", None, ())
    assert settings.read_join_token() is None


def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSHORE_REGIONAL_IDC", "west")
    monkeypatch.setenv("LONGSHORE_REGIONAL_API_PORT", "9000")
    settings = load_settings({"idc": "east", "api_port": None})
    assert (settings.idc, settings.api_port) == ("east", 9000)


def test_an_unknown_key_is_an_error_wherever_it_stands() -> None:
    with pytest.raises(SettingsInvalid, match="LONGSHORE_REGIONAL_API_PROT"):
        load_settings({"idc": "east"}, {"LONGSHORE_REGIONAL_API_PROT": "1"})
    with pytest.raises(SettingsInvalid, match="api_prot"):
        load_settings({"idc": "east", "api_prot": 1}, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("idc", "East"),
        ("idc", "a/b"),
        ("idc", ""),
        ("idc", "a" * 64),
        ("server_ip", "::"),
        ("server_ip", "localhost"),
        ("api_port", -1),
        ("cache_limit_bytes", -1),
        ("log_level", "loud"),
        ("server", "plane:8080"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(key: str, value: object) -> None:
    with pytest.raises(SettingsInvalid, match=key):
        load_settings({"idc": "east", key: value}, {})


def test_settings_are_frozen_and_show_no_secret(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("LSJOIN-1-secret\n")
    settings = load_settings({"idc": "east", "join_token_file": tmp_path / "token", "etcd_password": "pass"}, {})
    assert settings.read_join_token() == "LSJOIN-1-secret"
    assert "pass" not in repr(settings).replace("etcd_password", "")
    with pytest.raises(ValueError, match="frozen"):
        settings.idc = "west"  # type: ignore[misc]
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        RegionalSettings(idc="east", join_token_file=tmp_path / "none").read_join_token()
    assert RegionalSettings(idc="east", etcd="a:1, b:2,").etcd_endpoints == ("a:1", "b:2")
