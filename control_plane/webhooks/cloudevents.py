"""Messages as CloudEvents 1.0 in structured JSON mode (CloudEvents JSON event format 1.0.2, section 3), and their
signature; pure.

The signature is HMAC-SHA256 over `<timestamp>.<body>` with the hook's secret. The timestamp is of the attempt, so that
a receiver that refuses old ones (we advise five minutes) cannot be fed a recorded request later.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_TYPE_PREFIX = "io.longshore."
# The first of these that a message has says what it is about.
_SUBJECTS = ("repository", "instance_id", "tenant", "user_id", "webhook_id", "tenant_id")


def event_body(message_id: str, topic: str, payload: Mapping[str, Any], moment: datetime, source: str) -> str:
    """`source` and `message_id` together name the event for ever: a receiver drops what it has seen."""
    event = {
        "specversion": "1.0",
        "id": message_id,
        "source": source,
        "type": _TYPE_PREFIX + topic,
        "time": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "datacontenttype": "application/json",
        "data": dict(payload),
    }
    subject = next((payload[name] for name in _SUBJECTS if payload.get(name)), None)
    if subject is not None:
        event["subject"] = str(subject)
    return json.dumps(event, separators=(",", ":"), sort_keys=True)


def signature(secret: bytes, timestamp: int, body: bytes) -> str:
    """The value of the header `Longshore-Signature`."""
    return "v1=" + hmac.new(secret, f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def headers_of(delivery_id: str, attempt: int, timestamp: int, signed: str) -> dict[str, str]:
    return {
        "Content-Type": CONTENT_TYPE,
        "Longshore-Delivery": delivery_id,
        "Longshore-Attempt": str(attempt),
        "Longshore-Timestamp": str(timestamp),
        "Longshore-Signature": signed,
    }
