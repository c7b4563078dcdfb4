"""Nothing listens beyond loopback and no secret has a value unless somebody says so."""

from pydantic import SecretStr

from agent.settings import AgentSettings
from control_plane.settings import Settings
from regional.settings import RegionalSettings


def test_every_listener_of_the_control_plane_is_on_loopback_by_default() -> None:
    listeners = Settings().listeners
    assert {listeners.http, listeners.enrolment, listeners.attach} == {
        "127.0.0.1:8080",
        "127.0.0.1:8443",
        "127.0.0.1:8444",
    }


def test_agents_and_regionals_listen_on_loopback_by_default() -> None:
    assert AgentSettings.model_fields["listen_host"].default == "127.0.0.1"
    assert RegionalSettings.model_fields["server_ip"].default == "127.0.0.1"


def test_no_secret_has_a_default() -> None:
    def secrets_of(part: object) -> list[SecretStr]:
        found = []
        for name in type(part).model_fields:  # type: ignore[attr-defined]
            value = getattr(part, name)
            if isinstance(value, SecretStr):
                found.append(value)
            elif hasattr(type(value), "model_fields"):
                found.extend(secrets_of(value))
        return found

    assert secrets_of(Settings()) == []
