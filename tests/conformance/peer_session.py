"""What every `PeerSession` must do; `tests/common/bittorrent/` runs it on libtorrent and on the memory swarm.

A subclass supplies the fixture `lab`: sessions of one network, a tracker and a disk that can be full (the
protocol `PeerLab` in peer_network.py).
"""

from __future__ import annotations

import pytest

from tests.conformance.peer_authorisation import PeerAuthorisation
from tests.conformance.peer_bans import PeerBans
from tests.conformance.peer_faults import PeerFaults
from tests.conformance.peer_limits import PeerLimits
from tests.conformance.peer_reading import PeerReading
from tests.conformance.peer_transfers import PeerTransfers


@pytest.mark.timeout(60)
class PeerSessionConformance(PeerAuthorisation, PeerTransfers, PeerFaults, PeerBans, PeerReading, PeerLimits):
    """Every promise of the port."""
