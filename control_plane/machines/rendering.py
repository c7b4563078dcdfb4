"""What the unattended installer of a machine reads, and the example machines that profiles are tried with; pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from control_plane.machines import planning
from control_plane.machines.answers import rendering
from control_plane.machines.answers.model import Answers
from control_plane.machines.model import BootSettings, Firmware, Machine, MachineState
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
_TRIAL_NONCE = "7d0c52f1be934a06a8c1f3e9d2b45760"  # of texts that go to nobody's machine


def answers(spec: ProfileSpec, machine: Machine, nonce: str) -> Answers:
    """`nonce`: 32 random hexadecimal digits, of this rendering alone. Raises `Invalid` with what is wrong."""
    return rendering.render(planning.installation(spec, machine), nonce=nonce, image=spec.method is Method.IMAGE)


def preview(spec: ProfileSpec, machine: Machine) -> Answers:
    """Without hashes and secrets. Raises `Invalid`."""
    return rendering.preview(planning.installation(spec, machine), image=spec.method is Method.IMAGE)


def redacted(spec: ProfileSpec) -> ProfileSpec:
    """What may be listed: password hashes and secrets are not in it."""
    hidden = rendering.redacted(planning.installation(spec, EXAMPLE))
    return replace(spec, root_password_hash=hidden.root_password_hash, users=hidden.users, secrets=hidden.secrets)


def check(spec: ProfileSpec) -> None:
    """Whether it can be rendered at all, for either firmware. Raises `Invalid`."""
    for firmware in (Firmware.BIOS, Firmware.UEFI_X64):
        answers(spec, replace(EXAMPLE, boot=BootSettings(firmware=firmware)), _TRIAL_NONCE)
