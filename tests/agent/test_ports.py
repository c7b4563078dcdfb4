from __future__ import annotations

from pathlib import Path

import pytest

from agent.ports import last_ports, remember_ports


def test_the_next_process_knows_the_ports_of_the_last(tmp_path: Path) -> None:
    assert last_ports(tmp_path) == {}
    remember_ports(tmp_path, mirror=5001, peer_port=5002)
    assert last_ports(tmp_path) == {"mirror": 5001, "peer_port": 5002}


@pytest.mark.parametrize("damaged", ["damaged", "{}", "[]", '{"mirror": 0}', '{"mirror": 70000, "peer_port": "x"}'])
def test_a_damaged_memory_is_none(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "ports.json").write_text(damaged)
    assert last_ports(tmp_path) == {}
