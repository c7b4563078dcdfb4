"""What becomes of a link or a blob, whatever the facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from control_plane.registry.collection.model import BlobFacts, LinkFacts, Pace, Verdict
from control_plane.registry.collection.rules import judge_blob, judge_link, retry_at

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PACE = Pace()
moments = st.none() | st.integers(-100, 100).map(lambda hours: NOW + timedelta(hours=hours))
sizes = st.none() | st.integers(0, 9)


@given(st.builds(LinkFacts, sizes, st.booleans(), moments))
def test_a_link_ends_only_if_nothing_refers_to_it(facts: LinkFacts) -> None:
    decision = judge_link(facts, PACE, NOW)
    needed = facts.referenced or facts.trashed_until is not None
    assert (decision.verdict is Verdict.UNLINK) == (facts.size is not None and not needed)
    assert (decision.verdict is Verdict.POSTPONE) == (decision.until is not None)
    assert decision.until is None or decision.until > NOW


@given(st.builds(BlobFacts, sizes, linked=st.booleans(), trashed_until=moments, condemned_at=moments), st.booleans())
def test_bytes_go_only_if_nobody_needs_them_and_the_sentence_is_old_enough(facts: BlobFacts, wanted: bool) -> None:
    decision = judge_blob(facts, PACE, NOW, wanted=wanted)
    needed = facts.linked or wanted or facts.trashed_until is not None
    ripe = facts.condemned_at is not None and facts.condemned_at <= NOW - PACE.reprieve
    assert (decision.verdict is Verdict.DELETE) == (facts.size is not None and not needed and ripe)
    assert decision.verdict is not Verdict.CONDEMN or not needed
    assert decision.until is None or decision.until > NOW


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_what_fails_is_tried_again_ever_more_rarely_but_never_given_up(attempts: int, chance: float) -> None:
    wait = retry_at(NOW, attempts, chance) - NOW
    assert timedelta(seconds=30) <= wait <= timedelta(hours=6)
    assert wait <= retry_at(NOW, attempts + 2, chance) - NOW
