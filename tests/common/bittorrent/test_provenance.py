"""Totals by source never shrink and never fall short of what the torrent counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.bittorrent.provenance import Connection, Kind, Provenance


def connection(number: int, kind: Kind, received_bytes: int) -> Connection:
    return Connection(("10.0.0.1", number, b"id"), kind, received_bytes)


def test_a_connection_that_went_stays_counted():
    provenance = Provenance()
    provenance.observe([connection(1, Kind.AGENT, 100), connection(2, Kind.REGIONAL, 50)], 150)
    provenance.observe([connection(2, Kind.REGIONAL, 70)], 170)
    assert provenance.totals() == {Kind.AGENT: 100, Kind.REGIONAL: 70}


def test_a_connection_that_came_back_counts_anew():
    provenance = Provenance()
    provenance.observe([connection(1, Kind.AGENT, 100)], 100)
    provenance.observe([connection(1, Kind.AGENT, 30)], 130)
    assert provenance.totals()[Kind.AGENT] == 130


def test_what_nobody_shows_goes_to_the_kind_that_left():
    provenance = Provenance()
    provenance.observe([connection(1, Kind.AGENT, 100), connection(2, Kind.REGIONAL, 10)], 110)
    provenance.departed(Kind.REGIONAL)
    provenance.observe([connection(1, Kind.AGENT, 100)], 150)
    assert provenance.totals() == {Kind.AGENT: 100, Kind.REGIONAL: 50}


def test_without_a_departure_it_is_shared_in_proportion():
    provenance = Provenance()
    provenance.observe([connection(1, Kind.AGENT, 300), connection(2, Kind.REGIONAL, 100)], 440)
    assert provenance.totals() == {Kind.AGENT: 330, Kind.REGIONAL: 110}


def test_with_nothing_known_it_is_the_agents():
    provenance = Provenance()
    provenance.observe([], 7)
    assert provenance.totals() == {Kind.AGENT: 7, Kind.REGIONAL: 0}


def test_totals_outlive_the_torrent_in_libtorrent():
    provenance = Provenance()
    provenance.observe([connection(1, Kind.AGENT, 100)], 100)
    provenance.end()
    provenance.observe([connection(1, Kind.AGENT, 20)], 120)
    assert provenance.totals()[Kind.AGENT] == 120


samples = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 4), st.tuples(st.sampled_from(Kind), st.integers(0, 1000)), max_size=4),
        st.integers(0, 3000),
        st.sets(st.sampled_from(Kind)),
        st.booleans(),
    ),
    max_size=10,
)


@given(samples)
def test_totals_never_shrink_nor_fall_short(steps):
    provenance, before, total = Provenance(), dict.fromkeys(Kind, 0), 0
    for connections, growth, departed, ended in steps:
        for kind in departed:
            provenance.departed(kind)
        total += growth
        # One connection keeps its kind for life.
        provenance.observe([connection(n * 3 + list(Kind).index(k), k, v) for n, (k, v) in connections.items()], total)
        if ended:
            provenance.end()
        after = provenance.totals()
        assert sum(after.values()) >= total
        assert all(after[kind] >= before[kind] for kind in Kind)
        before = after
