"""The renderers as the rest of the domain calls them, and the example machine that profiles are tried with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from control_plane.machines import planning
from control_plane.machines.answers.model import Answers, Format, Installation
from control_plane.machines.model import Machine, MachineState
from control_plane.machines.profiles_model import Method, ProfileSpec

EXAMPLE = Machine(
    id="00000000-0000-7000-8000-000000000000",
    idc_id="",
    idc="example",
    name="example",
    state=MachineState.READY,
    macs=("52:54:00:12:34:56",),
    created_at=datetime(2000, 1, 1, tzinfo=UTC),
    serial="EXAMPLE1",
)


@dataclass(frozen=True)
class Rendering:
    """`render` takes 32 random hexadecimal digits as the nonce of placeholders; `redacted` shows no secrets; both raise
    `Invalid`. `format_for`: what a system's own installer reads.
    """

    render: Callable[[Installation, Format, str], Answers]
    redacted: Callable[[Installation, Format], Answers]
    format_for: Callable[[Installation], Format]

    def answers(self, spec: ProfileSpec, machine: Machine, nonce: str) -> Answers:
        installation, form = self._asked(spec, machine)
        return self.render(installation, form, nonce)

    def preview(self, spec: ProfileSpec, machine: Machine) -> Answers:
        installation, form = self._asked(spec, machine)
        return self.redacted(installation, form)

    def _asked(self, spec: ProfileSpec, machine: Machine) -> tuple[Installation, Format]:
        installation = planning.installation(spec, machine)
        form = Format.CLOUD_INIT if spec.method is Method.IMAGE else self.format_for(installation)
        return installation, form
