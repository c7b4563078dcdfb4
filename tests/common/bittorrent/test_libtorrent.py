"""The suite of the port on libtorrent, and what is libtorrent's alone."""

from __future__ import annotations

import pytest

from tests.conformance.peer_session import PeerSessionConformance


class TestLibtorrentSession(PeerSessionConformance):
    @pytest.fixture
    def lab(self, libtorrent_lab):
        return libtorrent_lab
