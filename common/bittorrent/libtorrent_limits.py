"""Rate limits in libtorrent's words.

Peers of private addresses are in a class of their own there, which no session limit reaches: in a data centre limits
would silently do nothing (libtorrent#8356). So every address is put into the global class, and into no other.
"""

from __future__ import annotations

from collections.abc import Mapping

import libtorrent as lt

from common.bittorrent import RateLimits
from common.bittorrent.lan_settings import Setting

# RFC 8622: the lower effort per-hop behaviour has the code point 000001.
LOWER_EFFORT_DSCP = 1


def everybody_counts() -> lt.ip_filter:
    rules = lt.ip_filter()
    everyone = 1 << int(lt.session.global_peer_class_id)
    rules.add_rule("0.0.0.0", "255.255.255.255", everyone)
    rules.add_rule("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", everyone)
    return rules


def limit_settings(limits: RateLimits, *, lower_effort: bool) -> Mapping[str, Setting]:
    return {
        "download_rate_limit": limits.download,
        "upload_rate_limit": limits.upload,
        "peer_dscp": LOWER_EFFORT_DSCP if lower_effort else 0,
    }
