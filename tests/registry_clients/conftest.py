from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry_clients.serving import ServedRegistry, served_registry


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedRegistry]:
    root = tmp_path / "served"
    root.mkdir()
    with served_registry(root) as registry:
        yield registry
