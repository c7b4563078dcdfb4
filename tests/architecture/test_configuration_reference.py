"""The page of the configuration says what the settings models say."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from agent.settings import AgentSettings
from control_plane.cli.settings import CliSettings
from control_plane.settings import Settings
from deploy import configuration_reference
from regional.settings import RegionalSettings

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "configuration.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == configuration_reference.page(), (
        "run: python -m deploy.configuration_reference > docs/operations/configuration.md"
    )


def fields_of(model: type[BaseModel], path: str = "") -> list[tuple[str, str | None]]:
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += fields_of(field.annotation, f"{path}{name}.")
        else:
            found.append((path + name, field.description))
    return found


@pytest.mark.parametrize("model", [Settings, AgentSettings, RegionalSettings, CliSettings])
def test_every_setting_says_what_it_means(model: type[BaseModel]) -> None:
    assert [name for name, description in fields_of(model) if not description] == []


@pytest.mark.parametrize(
    "option",
    ["--http", "--enrolment", "--attach", "--mirror-port", "--static-root", "--server", "--docker-network", "--token"],
)
def test_options_of_the_command_line_stand_beside_their_settings(option: str) -> None:
    assert f"| `{option}` |" in PAGE.read_text()
