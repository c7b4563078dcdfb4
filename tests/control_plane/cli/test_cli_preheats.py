"""Preheats, limits, labels and forecasts from the command line."""

from pathlib import Path

import pytest

from tests.control_plane.cli.programs import Longshore

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def image(admin: Longshore, layout: Path) -> str:
    assert admin("idc", "create", "south").code == 0
    assert admin("image", "push", layout, "acme/warm:1").code == 0
    return "acme/warm:1"


def test_a_pin_on_regionals_is_made_shown_and_cancelled(admin: Longshore, viewer: Longshore, image: str) -> None:
    made = admin("preheat", "create", image, "--idc", "south", "--regionals-only", "--json").json
    assert (made["state"], made["keep_until"], made["lower_effort"]) == ("active", None, True)
    assert "south" in viewer("preheat", "show", made["id"]).text
    assert viewer("preheat", "cancel", made["id"]).code == 4
    assert admin("preheat", "cancel", made["id"]).code == 0
    assert made["id"] not in admin("preheat", "list").text


def test_what_makes_no_sense_is_refused(admin: Longshore, image: str) -> None:
    assert admin("preheat", "create", image, "--daily", "whenever").code == 2
    assert admin("preheat", "create", image, "--label", "rack=r1").code == 5
    assert admin("limit", "set", "--wan-down", "quick").code == 2
    assert admin("limit", "set", "--host", "e1", "--host-up", "5").code == 2
    assert admin("limit", "set", "--host", "south/e1", "--idc", "south", "--host-up", "5").code == 2
    assert admin("limit", "set", "--host", "south/e1", "--host-up", "5").code == 5


def test_limits_are_given_by_link_and_hour_and_a_forecast_follows(
    admin: Longshore, viewer: Longshore, image: str
) -> None:
    assert admin("limit", "set", "--idc", "south", "--wan-down", "400", "--host-down", "1000").code == 0
    daily = "22:00-06:00@Europe/Berlin"
    assert admin("limit", "set", "--idc", "south", "--wan-down", "800", "--daily", daily).code == 0
    lines = [[word for word in line.split() if word != "-"] for line in viewer("limit", "list").text.splitlines()]
    assert ["idc", "south", "22:00-06:00", "Europe/Berlin", "800.0"] in lines
    assert ["idc", "south", "always", "400.0", "1000.0"] in lines
    assert viewer("limit", "set", "--wan-down", "1").code == 4
    assert viewer("swarm", "forecast", "10GB", "--idc", "south", "--hosts", "400").text in (
        "10GB to 400 hosts: 3 m 20 s; bottleneck WAN south",
        "10GB to 400 hosts: 1 m 40 s; bottleneck WAN south",  # at night
    )
