from __future__ import annotations

import pytest

from common.errors import Invalid
from control_plane.cli import instance_words as words


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("data:/var/lib", {"volume": "data", "target": "/var/lib", "read_only": False}),
        ("data:/var/lib:ro", {"volume": "data", "target": "/var/lib", "read_only": True}),
        ("data:/var/lib:rw", {"volume": "data", "target": "/var/lib", "read_only": False}),
        ("/srv/data:/data", {"host_path": "/srv/data", "target": "/data", "read_only": False}),
    ],
)
def test_a_mount_is_a_volume_or_a_directory_of_the_host(text: str, mount: dict[str, object]) -> None:
    assert words.mount(text) == mount


@pytest.mark.parametrize("text", ["data", "data:", ":/data", "data:/data:secret", ""])
def test_what_is_no_mount_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        words.mount(text)


def test_a_port_may_be_written_short() -> None:
    assert words.port("80") == {"host_ip": "127.0.0.1", "host_port": 0, "container_port": 80, "protocol": "tcp"}
    assert words.port("0.0.0.0:8053:53/udp") == {
        "host_ip": "0.0.0.0",
        "host_port": 8053,
        "container_port": 53,
        "protocol": "udp",
    }
    with pytest.raises(Invalid):
        words.port("eighty")


def test_a_pair_needs_a_name() -> None:
    assert words.pair("A=b=c") == ("A", "b=c")
    for text in ("A", "=b"):
        with pytest.raises(Invalid):
            words.pair(text)


def test_what_was_not_given_is_left_out() -> None:
    assert words.given(a="", b=None, c=0, d=[], e={}, f="x", g=[0]) == {"f": "x", "g": [0]}
