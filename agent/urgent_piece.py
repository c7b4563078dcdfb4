"""The one piece that a reader begins with, by range from a regional, beside the swarm.

libtorrent asks for it first too, but behind what the peer has in its send buffer already (measured at 100 Mbit/s: 100
to 600 ms until the first byte). A connection of its own has a share of the line at once. It costs at most one piece
of each reader's content twice, and never crosses a WAN: the centre is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

import structlog

from agent.content_http import ContentHttp, Source
from agent.leases import counted
from agent.ledger import ContentKey, Ledger
from agent.swarms import Member
from common.errors import Failure

log = structlog.get_logger()


async def bring_piece(
    http: ContentHttp,
    ledger: Ledger,
    sources: Sequence[Source],
    key: ContentKey,
    token: str,
    member: Member,
    index: int,
) -> None:
    """A help: whatever goes wrong, the swarm brings the piece as well."""
    metainfo = member.metainfo
    start = index * metainfo.piece_length
    end = start + metainfo.piece_size(index)
    for source in sources:
        if source.kind != "regional":
            continue
        piece = bytearray()
        try:
            chunks = counted(ledger, key, source, http.read(source, key[1], token, start, end))
            async with aclosing(chunks):
                async for chunk in chunks:
                    piece += chunk
            await member.handle.add_piece(index, bytes(piece))
            return
        except Failure as failure:
            log.info("urgent piece not brought", source=str(source), digest=str(key[1]), error=str(failure))
