"""How a host tells a regional that nobody waits for what it asks for, and how such packets are marked; pure.

RFC 8622: the lower effort per-hop behaviour has the DSCP 000001; in the IP header's byte it stands above the two bits
of ECN.
"""

from __future__ import annotations

EFFORT_HEADER = "Longshore-Effort"
LOWER_EFFORT = "lower"
LOWER_EFFORT_TOS = 0b000001 << 2
