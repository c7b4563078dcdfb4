"""libtorrent's settings for a data centre's network. Pure: a dictionary that a test holds against the binding.

Invariant: peers come from our trackers and `connect_peer` alone; nothing is asked of, or told to, anybody else.
Measured, 256 MiB over loopback between two processes (libtorrent 2.1.1, two cores of an EPYC that others used too):
defaults 14 to 22 MB/s (uTP), TCP alone 250 to 280; with these 426, 493, 709 and 782 in four runs, 0.1 s of each run
being the wait for the connection; leecher 0.95 and seeder 0.24 CPU seconds per GB, 78 MB resident each. Over TLS 520 to
630 where plain gave 790 to 1170, and 0.7 CPU seconds per GB more on each side.

Known and left: a leecher that has all a slow source has so far asks for two blocks at a time until the first second's
rate is known, and libtorrent does not set TCP_NODELAY, so such a round may wait 40 ms for a delayed acknowledgement. It
costs at most half a second, once, at the start of a cut-through.
"""

from __future__ import annotations

import ipaddress

Setting = bool | int | str

# Without DHT, LSD, UPnP, NAT-PMP and STUN; PEX is off in private torrents (BEP 27).
_ALONE: dict[str, Setting] = {
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_ip_notifier": False,
    "webtorrent_stun_server": "",
    "use_dht_as_fallback": False,
    "user_agent": "longshore",
    "apply_ip_filter_to_trackers": False,
}

_TRANSPORT: dict[str, Setting] = {
    # uTP costs five times the CPU and reached 18 MB/s on a LAN.
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "mixed_mode_algorithm": 0,
    # Bytes are verified by hash; obfuscation would only cost CPU (RC4: 267 against 436 MB/s).
    "in_enc_policy": 2,
    "out_enc_policy": 2,
    "rate_limit_ip_overhead": False,
    "send_buffer_watermark": 4 << 20,
    "send_buffer_low_watermark": 1 << 20,
    "send_buffer_watermark_factor": 200,
    "send_not_sent_low_watermark": 512 << 10,
    "max_retry_port_bind": 0,
    "listen_system_port_fallback": False,
    "listen_queue_size": 256,
}

_PEERS: dict[str, Setting] = {
    "allow_multiple_connections_per_ip": True,
    # Connecting and unchoking wait for a tick; at 500 ms that is half of a small layer's time. Idle cost of 200
    # torrents at 100 ms: 0.001 of a core.
    "tick_interval": 100,
    "connection_speed": 500,
    "torrent_connect_boost": 255,
    "min_reconnect_time": 1,
    "peer_connect_timeout": 5,
    "handshake_timeout": 5,
    "peer_turnover": 0,
    "unchoke_slots_limit": 2000,
    # A regional that only gives (`upload_only`) says so, and a leecher that has caught up with it would hang up as
    # "uninteresting" and come back too late for the next piece. So nobody hangs up; idle connections go when a limit is
    # reached, after this inactivity.
    "close_redundant_connections": False,
    "inactivity_timeout": 20,
    "connections_limit": 2000,
    "active_downloads": -1,
    "active_seeds": -1,
    "active_limit": -1,
    "active_tracker_limit": -1,
    "active_checking": -1,
}

_REQUESTS: dict[str, Setting] = {
    # Short queues mean fewer duplicates: in the pilot with eight peers 1 s instead of 3 s took origin egress from 1.65
    # to 1.42 copies. The peer's own `reqq` (our max_allowed_in_request_queue) overrides max_out_request_queue.
    "request_queue_time": 1,
    "max_out_request_queue": 200,
    "max_allowed_in_request_queue": 256,
    # The first four pieces would be picked at random, whatever their priority.
    "initial_picker_threshold": 0,
}

_TRACKERS: dict[str, Setting] = {
    "announce_to_all_trackers": True,
    "announce_to_all_tiers": True,
    "min_announce_interval": 5,
    "tracker_completion_timeout": 10,
    "tracker_receive_timeout": 10,
    "stop_tracker_timeout": 1,
}

_DISK: dict[str, Setting] = {
    # 16 MiB a session were no slower than 100 and cost 60 MB less memory.
    "max_queued_disk_bytes": 16 << 20,
    "hashing_threads": 2,
    "aio_threads": 4,
    "no_atime_storage": True,
}


def session_settings(
    listen_host: str, listen_port: int, fingerprint: bytes, *, tls: bool = False
) -> dict[str, Setting]:
    """`tls`: the one listener speaks TLS and nothing else, so only swarms with an authority can be reached there.

    Raises ValueError if `listen_host` is not an address or the fingerprint does not have BEP 20's eight bytes.
    """
    address = ipaddress.ip_address(listen_host)
    if len(fingerprint) != 8:
        raise ValueError(f"a fingerprint of {len(fingerprint)} bytes")
    host = f"[{address}]" if address.version == 6 else str(address)
    return {
        **_ALONE,
        **_TRANSPORT,
        **_PEERS,
        **_REQUESTS,
        **_TRACKERS,
        **_DISK,
        "listen_interfaces": f"{host}:{listen_port}{'s' if tls else ''}",
        "peer_fingerprint": fingerprint.decode("ascii"),
        # It refuses most trackers on loopback, which only a demo or a test has.
        "ssrf_mitigation": not address.is_loopback,
        "alert_queue_size": 20_000,
    }
