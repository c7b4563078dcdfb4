"""A connection that a proxy keeps for later is still open when it is used again."""

from __future__ import annotations

import contextlib
import http.client
import time
from pathlib import Path

import pytest

from tests.faults.lives import installation

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

# uvicorn's own limit is 5 s, as long as many clients keep a connection: both sides would act at once.
_IDLE_SECONDS = 6.0


def test_a_connection_that_idled_for_longer_than_a_client_keeps_it_is_used_again(tmp_path: Path) -> None:
    with installation(tmp_path / "plane", {}) as server:
        connection = http.client.HTTPConnection(server.ready["http"], timeout=30)
        connection.auto_open = False  # or http.client would hide that it was closed
        with contextlib.closing(connection):
            connection.connect()
            for wait in (_IDLE_SECONDS, 0.0):
                connection.request("GET", "/v2/")
                with connection.getresponse() as answer:
                    assert answer.status == 401
                    answer.read()
                time.sleep(wait)
