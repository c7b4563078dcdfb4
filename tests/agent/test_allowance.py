from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from agent.allowance import Allowance, NotAllowed, allowance_of, volume_of
from agent.model import Assignment, ContainerSpec, Mount
from agent.settings import AgentSettings, SettingsInvalid, load_settings
from tests.agent.samples import assignment, sample

IMAGE = sample(b"layer").image


def wanting(**spec: object) -> Assignment:
    return assignment(IMAGE, container=ContainerSpec(**spec))  # type: ignore[arg-type]


@pytest.mark.parametrize("network", ["", "bridge", "none"])
def test_a_harmless_network_needs_no_leave(network: str) -> None:
    assert Allowance().bounded(wanting(network=network), adopted=False).network == network


@pytest.mark.parametrize(
    "spec",
    [
        {"privileged": True},
        {"network": "host"},
        {"network": "frontend"},
        {"network": "container:somebody"},
        {"mounts": (Mount("", "/x", host_path="/etc"),)},
    ],
)
def test_nothing_reaches_the_host_without_its_operators_leave(spec: dict[str, object]) -> None:
    with pytest.raises(NotAllowed):
        Allowance().bounded(wanting(**spec), adopted=False)


def test_what_the_operator_allowed_is_given(tmp_path: Path) -> None:
    settings = AgentSettings(
        server="https://centre",
        container_networks="host, frontend",
        container_directories=str(tmp_path),
        allow_privileged=True,
    )
    allowance = allowance_of(settings)
    mount = Mount("", "/x", host_path=f"{tmp_path}/deep")
    wanted = wanting(privileged=True, network="frontend", mounts=(mount,))
    assert allowance.bounded(wanted, adopted=False) == wanted.container
    with pytest.raises(NotAllowed):
        allowance.bounded(wanting(network="backend"), adopted=False)


def test_a_link_does_not_lead_out_of_an_allowed_directory(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "out").symlink_to("/etc")
    (allowed / "in").symlink_to(allowed)
    allowance = Allowance(directories=(allowed,))
    for path in ("out", "out/passwd", "../secret", ""):
        host_path = f"{allowed}/{path}" if path else str(tmp_path)
        with pytest.raises(NotAllowed):
            allowance.bounded(wanting(mounts=(Mount("", "/x", host_path=host_path),)), adopted=False)
    (mount,) = allowance.bounded(wanting(mounts=(Mount("", "/x", host_path=f"{allowed}/in"),)), adopted=False).mounts
    assert mount.host_path == str(allowed)


def test_two_tenants_that_name_a_volume_alike_have_two() -> None:
    wanted = wanting(mounts=(Mount("data", "/x"),))
    (ours,) = Allowance().bounded(wanted, adopted=False).mounts
    (theirs,) = Allowance().bounded(dataclasses.replace(wanted, tenant_id="tenant-2"), adopted=False).mounts
    assert ours.volume == volume_of("tenant-1", "data") != theirs.volume
    assert ours.volume.endswith("-data")


def test_the_volumes_of_an_adopted_container_keep_their_names() -> None:
    wanted = wanting(mounts=(Mount("data", "/x"),))
    assert Allowance().bounded(wanted, adopted=True) == wanted.container


def test_who_adopts_a_container_gets_no_volume_of_another_tenant_with_it() -> None:
    ours = wanting(mounts=(Mount(volume_of("tenant-1", "data"), "/x"),))
    assert Allowance().bounded(ours, adopted=True) == ours.container
    theirs = wanting(mounts=(Mount(volume_of("tenant-2", "data"), "/x"),))
    with pytest.raises(NotAllowed, match="another tenant's"):
        Allowance().bounded(theirs, adopted=True)


def test_a_directory_that_is_not_absolute_is_no_setting() -> None:
    with pytest.raises(SettingsInvalid):
        load_settings({"server": "https://centre", "container_directories": "/srv:srv"}, {})
