"""What can be wrong with an installation or a template, as errors that say where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import Invalid

# A message names so many; the rest is counted.
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """`where`: the field ("users[0].name"), or the line of a template ("line 3")."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class InstallationInvalid(Invalid):
    """A value breaks its rule, or the system's installer cannot do what is asked."""

    code = "installation_invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(
            f"this cannot be installed: {_listed(problems)}", action="mend the machine or its profile, then ask again"
        )
        self.problems = tuple(problems)


class TemplateInvalid(Invalid):
    code = "template_invalid"

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"the template {name} is not usable: {_listed(problems)}", action="mend the lines named")
        self.problems = tuple(problems)


def _listed(problems: Sequence[Problem]) -> str:
    shown = "; ".join(str(problem) for problem in problems[:_SHOWN])
    return shown if len(problems) <= _SHOWN else f"{shown}; and {len(problems) - _SHOWN} more"
