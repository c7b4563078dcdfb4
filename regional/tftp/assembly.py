"""TFTP as the settings say: the one place that joins its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from common.clock import Clock
from common.lifecycle import Lifecycle
from regional.publication import check_path
from regional.settings import RegionalSettings
from regional.tftp.boot_files import BootFiles, Directory, FirstOf
from regional.tftp.events import Watch, nobody_watches
from regional.tftp.metrics import TftpMetrics
from regional.tftp.server import TftpServer, serving
from regional.tftp.terms import Limits, ServerLimits

log = structlog.get_logger()


async def start_tftp(
    settings: RegionalSettings,
    lifecycle: Lifecycle,
    clock: Clock,
    random: Callable[[], float],
    registry: CollectorRegistry,
    generated: Sequence[BootFiles] = (),
    watch: Watch = nobody_watches,
) -> int | None:
    """The UDP port, or None if it is not enabled. `generated` is asked before the directory. `watch` is told
    what was asked for and how it ended; it must neither wait nor raise. Raises `TftpListenFailed`.
    """
    if not settings.enable_tftp:
        return None
    terms = Limits(settings.tftp_block_bytes, settings.tftp_window_blocks, settings.tftp_rollover)
    limits = ServerLimits(settings.tftp_transfers, settings.tftp_transfers_per_client, settings.tftp_single_port, terms)

    def whole(path: Path) -> None:
        check_path(path, clock.now().timestamp(), settings.settle_seconds)

    files = FirstOf((*generated, Directory(settings.static_root, whole)))
    server = TftpServer(files, limits, clock, random, TftpMetrics(registry), watch)
    port = await lifecycle.enter(serving(server, settings.server_ip, settings.tftp_port, lifecycle.spawn))
    log.info("tftp listening", address=f"{settings.server_ip}:{port}", root=str(settings.static_root))
    return port
