"""Writes docs/operations/configuration.md from the settings models, so that the page cannot say anything else.

Run: python -m deploy.configuration_reference > docs/operations/configuration.md
Invariant: the page depends on the code alone, never on the machine or its environment.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from agent.program import app as agent_app
from agent.settings import AgentSettings
from control_plane.cli.program import app as cli_app
from control_plane.cli.settings import CliSettings
from control_plane.program import app as server_app
from control_plane.settings import Settings
from regional.program import app as regional_app
from regional.settings import RegionalSettings

_PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", SecretStr: "secret"}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}

_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m deploy.configuration_reference > docs/operations/configuration.md` from the settings models. -->

Every service reads its settings once, when it starts. Strongest first: options of the command line, then the
environment, then (control plane only) the TOML file that `--config` names. An unknown setting is an error that names
it. Nothing listens beyond loopback unless a setting says so, and no secret has a default.
"""

_CONTROL_PLANE = """\
In the TOML file a dot is a table: `listeners.http` is `http` under `[listeners]`. In the environment a list is a JSON
array: `LONGSHORE_PUBLIC__NAMES='["one", "two"]'`.

```toml
# /etc/longshore/server.toml: longshore-server serve --config /etc/longshore/server.toml
data = "/var/lib/longshore"

[listeners]
http = "127.0.0.1:8080"        # nginx stands in front
enrolment = "0.0.0.0:8443"
attach = "0.0.0.0:8444"

[public]
url = "https://longshore.example.com"
host = "longshore.example.com"
```
"""


@dataclass(frozen=True)
class _Setting:
    key: str
    environment: str
    field: FieldInfo
    about_part: str  # what the model says that holds it


def page() -> str:
    """The whole document."""
    parts = [
        _INTRODUCTION,
        "## longshore-server\n",
        _CONTROL_PLANE,
        *_tables(Settings, "LONGSHORE_", _options(server_app, "serve")),
        "## longshore-agent\n",
        *_tables(AgentSettings, "LONGSHORE_AGENT_", _options(agent_app, "run")),
        "## longshore-regional\n",
        *_tables(RegionalSettings, "LONGSHORE_REGIONAL_", _options(regional_app, None)),
        "## longshore\n",
        "The command line has options, environment and the file that `longshore login` writes, in this order.\n",
        *_tables(CliSettings, "LONGSHORE_", _options(cli_app, None)),
    ]
    return "\n".join(parts)


def _tables(model: type[BaseModel], prefix: str, options: Mapping[str, str]) -> Iterator[str]:
    """One table for what stands at the top, and one for each nested part."""
    settings = list(_settings(model, prefix))
    for part in dict.fromkeys(setting.key.rpartition(".")[0] for setting in settings):
        rows = [setting for setting in settings if setting.key.rpartition(".")[0] == part]
        if part:
            yield f"### {part}\n"
            if rows[0].about_part:
                yield rows[0].about_part + "\n"
        yield "| setting | option | environment | type | default | meaning |\n|---|---|---|---|---|---|"
        yield "\n".join(_row(setting, options) for setting in rows) + "\n"


def _settings(model: type[BaseModel], prefix: str, path: str = "") -> Iterator[_Setting]:
    about = " ".join((model.__doc__ or "").split()) if path else ""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings(field.annotation, f"{prefix}{name.upper()}__", f"{path}{name}.")
        elif get_origin(field.annotation) is dict:  # parts by a name of the operator's
            part = get_args(field.annotation)[1]
            yield from _settings(part, f"{prefix}{name.upper()}__NAME__", f"{path}{name}.NAME.")
        else:
            yield _Setting(path + name, prefix + name.upper(), field, about)


def _options(app: typer.Typer, command: str | None) -> dict[str, str]:
    """Options by the name of their parameter."""
    found: Any = typer.main.get_command(app)
    if command is not None and hasattr(found, "commands"):
        found = found.commands[command]
    return {parameter.name: parameter.opts[0] for parameter in found.params}


def _row(setting: _Setting, options: Mapping[str, str]) -> str:
    table, _, name = setting.key.rpartition(".")
    # The control plane has options for its listeners only, and they carry the bare name.
    option = options.get(name) if table in ("", "listeners") else None
    cells = (
        f"`{setting.key}`",
        f"`{option}`" if option else "",
        f"`{setting.environment}`",
        _type(setting.field),
        _default(setting.field),
        setting.field.description or "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(field: FieldInfo) -> str:
    text = _type_name(field.annotation)
    for bound in field.metadata:
        for name, sign in _SIGNS.items():
            if hasattr(bound, name):
                text += f", {sign} {getattr(bound, name)}"
        if isinstance(bound, annotated_types.MinLen):
            text += ", not empty"
    return text


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "list"
    return _PLAIN[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if field.default_factory is not None or value is None or value in ("", ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    print(page(), end="")
