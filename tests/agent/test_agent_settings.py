from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.settings import SettingsInvalid, load_settings

SERVER = {"server": "http://127.0.0.1:8080/"}


def test_only_the_server_must_be_named() -> None:
    settings = load_settings({**SERVER, "data": None}, {})
    assert settings.server == "http://127.0.0.1:8080"
    assert settings.name
    assert (settings.listen_host, settings.runtime) == ("127.0.0.1", "auto")


def test_options_are_stronger_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSHORE_AGENT_NAME", "from-environment")
    monkeypatch.setenv("LONGSHORE_AGENT_PEER_PORT", "7001")
    settings = load_settings({**SERVER, "name": "from-option"})
    assert (settings.name, settings.peer_port) == ("from-option", 7001)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load_settings(SERVER, {}).name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ({}, {}, "server"),
        ({"server": "ftp://x"}, {}, "is not an http:// or https:// URL"),
        ({**SERVER, "runtime": "podman"}, {}, "runtime"),
        ({**SERVER, "peer_port": 70_000}, {}, "peer_port"),
        ({**SERVER, "listen_host": "localhost"}, {}, "listen_host"),
        ({**SERVER, "colour": "green"}, {}, "colour"),
        (SERVER, {"LONGSHORE_AGENT_COLOUR": "green"}, "LONGSHORE_AGENT_COLOUR is no setting"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, object], environment: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said):
        load_settings(options, environment)


def test_the_join_token_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("LSJOIN-secret\n")
    settings = load_settings({**SERVER, "join_token": "LSJOIN-other"}, {})
    assert "LSJOIN-other" not in repr(settings)
    assert settings.read_join_token() == "LSJOIN-other"
    assert load_settings({**SERVER, "join_token_file": path}, {}).read_join_token() == "LSJOIN-secret"
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load_settings({**SERVER, "join_token_file": tmp_path / "none"}, {}).read_join_token()
