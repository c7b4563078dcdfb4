"""Topics, delays and circuits; the signature that the manual tells receivers to check."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.webhooks.cloudevents import event_body, headers_of, signature
from control_plane.webhooks.model import Answer, Hook, TopicInvalid, check_topics, wants
from control_plane.webhooks.rules import OPENS_AT, after_failure, retry_at, slots
from control_plane.webhooks.sending import retry_after

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MANUAL = Path(__file__).parents[3] / "docs" / "operations" / "webhooks.md"
FAILED = Answer(500)


def hook(**more: Any) -> Hook:
    return Hook("h", None, "https://a/", ("*",), "", True, b"", NOW, "ada", **more)


@pytest.mark.parametrize("topic", ["*", "registry.*", "registry.image_pushed", "webhooks.disabled"])
def test_topics_that_are_taken(topic: str) -> None:
    assert check_topics([topic, topic]) == (topic,)


@pytest.mark.parametrize(
    "topic", ["", "**", "registry", "registry.", "*.x", "fleet.*", "jobs.ended", "registry.a b", "x" * 99]
)
def test_topics_that_are_refused(topic: str) -> None:
    with pytest.raises(TopicInvalid):
        check_topics([topic])


def test_who_wants_everything_gets_what_is_meant_for_outside() -> None:
    assert wants(["*"], "registry.tag_moved")
    assert wants(["registry.*"], "registry.tag_moved")
    assert not wants(["registry.tag_moved"], "registry.image_pushed")
    assert not wants(["*"], "fleet.assignments_changed")


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1e9))
def test_a_delay_is_bounded_and_not_shorter_than_the_receiver_wants(
    attempts: int, chance: float, wish: float | None
) -> None:
    delay = (retry_at(attempts, Answer(503, retry_after=wish), NOW, chance) - NOW).total_seconds()
    assert 2.5 <= delay <= 6 * 3600
    if wish is not None:
        assert delay >= min(wish, 6 * 3600) - 1e-3


@given(st.integers(0, 100), st.floats(0, 1, exclude_max=True))
def test_a_circuit_opens_after_five_failures_and_for_at_most_fifteen_minutes(failures: int, chance: float) -> None:
    circuit = after_failure(hook(failures=failures, failing_since=NOW), FAILED, NOW, chance, timedelta(days=5))
    assert (circuit.open_until is not None) == (failures + 1 >= OPENS_AT)
    if circuit.open_until is not None:
        assert 15 <= (circuit.open_until - NOW).total_seconds() <= 900
    assert slots(circuit.failures, 4) == (1 if failures + 1 >= OPENS_AT else 4)


def test_what_failed_together_opens_the_circuit_once() -> None:
    open_until = NOW + timedelta(seconds=20)
    circuit = after_failure(
        hook(failures=5, failing_since=NOW, open_until=open_until), FAILED, NOW, 0.9, timedelta(days=5)
    )
    assert (circuit.failures, circuit.open_until) == (5, open_until)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("9" * 40, 10**8),
        ("Sun, 01 Mar 2026 00:01:00 GMT", 60.0),
        ("Sun, 01 Mar 2020 00:01:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
    ],
)
def test_both_forms_of_retry_after_are_read(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds


def test_the_code_in_the_manual_takes_what_we_send_and_nothing_else() -> None:
    blocks = re.findall(r"```python\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(block, namespace)
    genuine = namespace["genuine"]
    secret, body = "a secret that is long enough", event_body("m-1", "registry.image_pushed", {}, NOW, "urn:x").encode()
    timestamp = int(NOW.timestamp())
    headers = headers_of("d-1", 1, timestamp, signature(secret.encode(), timestamp, body))
    assert genuine(secret, headers, body, timestamp + 299)
    assert not genuine(secret, headers, body, timestamp + 301)
    assert not genuine(secret, headers, body, timestamp - 301)
    assert not genuine(secret, headers, body + b" ", timestamp)
    assert not genuine("another secret, as long", headers, body, timestamp)
    assert not genuine(secret, {**headers, "Longshore-Timestamp": str(timestamp + 1)}, body, timestamp)
    assert not genuine(secret, {}, body, timestamp)
    assert not genuine(secret, {**headers, "Longshore-Timestamp": "x"}, body, timestamp)
