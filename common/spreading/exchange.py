"""What a host asks of a source's lease book, and what it is told, as JSON; pure.

Invariant: nothing here grows with what a stranger sends: bodies, lists and numbers are bounded before they are used.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

from common.errors import Invalid

# The bit map of a million pieces; a body beyond it is nobody's of ours.
MAXIMUM_BODY_BYTES = 256 << 10
_MOST_FETCHING = 8
_MOST_PEERS = 50
_MOST_SOON = 32
_ADDRESS_LENGTH = 60


class LeaseQuestionInvalid(Invalid):
    code = "lease_question_invalid"


@dataclass(frozen=True, slots=True)
class Question:
    """held: mask of the pieces the host has. fetching: runs that it fetches from the source right now.

    rate: bytes per second that it gains from everybody; source_rate: that one lease gave; 0: not known yet. peer_bytes:
    what peers gave it so far. soon: pieces that readers wait for, most urgent first. peer: `address:port` where its
    BitTorrent peer listens; empty: it has none.
    """

    held: int
    fetching: tuple[range, ...] = ()
    rate: float = 0.0
    source_rate: float = 0.0
    peer_bytes: int = 0
    soon: tuple[int, ...] = ()
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """run: pieces to fetch from the source within `seconds`; None: nothing now, ask again after `seconds`.

    peers: others that hold or want the content, where no tracker tells of them.
    """

    run: range | None
    seconds: float
    peers: tuple[str, ...] = ()


def encode_question(question: Question) -> bytes:
    held = question.held.to_bytes(-(-question.held.bit_length() // 8), "little")
    return _compact(
        {
            "held": base64.b64encode(held).decode("ascii"),
            "fetching": [[run.start, run.stop] for run in question.fetching[:_MOST_FETCHING]],
            "rate": round(question.rate),
            "source_rate": round(question.source_rate),
            "peer_bytes": question.peer_bytes,
            "soon": list(question.soon[:_MOST_SOON]),
            "peer": question.peer,
        }
    )


def decode_question(body: bytes, piece_count: int) -> Question:
    """Raises `LeaseQuestionInvalid`."""
    try:
        document = _document(body)
        held = int.from_bytes(base64.b64decode(document["held"], validate=True), "little")
        runs = tuple(_run(pair, piece_count) for pair in document.get("fetching", ())[:_MOST_FETCHING])
        soon = (int(piece) for piece in document.get("soon", ())[:_MOST_SOON])
        question = Question(
            held,
            tuple(run for run in runs if run),
            _rate(document.get("rate", 0)),
            _rate(document.get("source_rate", 0)),
            int(_rate(document.get("peer_bytes", 0))),
            tuple(piece for piece in soon if 0 <= piece < piece_count),
            str(document.get("peer", ""))[:_ADDRESS_LENGTH],
        )
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
        raise LeaseQuestionInvalid(f"the question for a lease is not understood: {error!r}"[:300]) from None
    if held.bit_length() > piece_count:
        raise LeaseQuestionInvalid(f"the host holds piece {held.bit_length() - 1} of {piece_count}")
    return question


def encode_grant(grant: Grant) -> bytes:
    run = [grant.run.start, grant.run.stop] if grant.run else None
    return _compact({"run": run, "seconds": round(grant.seconds, 3), "peers": list(grant.peers[:_MOST_PEERS])})


def decode_grant(body: bytes, piece_count: int) -> Grant:
    """Raises `LeaseQuestionInvalid` for what no source of ours says."""
    try:
        document = _document(body)
        run = None if document["run"] is None else _run(document["run"], piece_count)
        peers = tuple(str(peer)[:_ADDRESS_LENGTH] for peer in document.get("peers", ())[:_MOST_PEERS])
        return Grant(run or None, min(_rate(document["seconds"]), 600.0), peers)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LeaseQuestionInvalid(f"the lease is not understood: {error!r}"[:300]) from None


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _document(body: bytes) -> dict[str, Any]:
    if len(body) > MAXIMUM_BODY_BYTES:
        raise ValueError(f"{len(body)} bytes")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("no object")
    return document


def _run(pair: Any, piece_count: int) -> range:
    first, behind = pair
    if not (isinstance(first, int) and isinstance(behind, int) and 0 <= first <= behind <= piece_count):
        raise ValueError(f"{str(pair)[:60]} are not pieces of {piece_count}")
    return range(first, behind)


def _rate(value: Any) -> float:
    rate = float(value)
    if not math.isfinite(rate) or rate < 0:
        raise ValueError(f"{rate} is no rate")
    return rate
