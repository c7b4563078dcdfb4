from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.updates.model import (
    MOST_STARTS,
    Order,
    State,
    Trial,
    order_of,
    refused,
    started,
    state_of,
    taken_up,
    trusted,
)

DIGESTS = ["a" * 64, "b" * 64, "c" * 64]
orders = st.builds(Order, st.integers(1, 9), st.sampled_from(DIGESTS), st.just("2"), st.just(1.0), st.just(2.0))


@given(st.lists(st.tuples(st.sampled_from(["wish", "start", "well", "give up", "crash"]), orders), max_size=40))
def test_whatever_happens_there_is_a_version_to_run_and_orders_only_grow(events: list[tuple[str, Order]]) -> None:
    state, tried = State(), dict[int, str]()
    for event, order in events:
        before = state
        match event:
            case "wish":
                state = taken_up(state, order, installed=True)
            case "start":
                state = started(state)
            case "well":
                state = trusted(state, state.trial.order if state.trial else order)
            case "give up":
                state = refused(state, "why")
            case "crash":
                state = state_of(state.document())
        assert state.last_order >= before.last_order
        if state.trial is not None:
            assert state.trial.starts <= MOST_STARTS
            assert state.to_run == state.trial.order.digest
            # One number is never tried with two versions, and a number that passed never comes back.
            assert tried.setdefault(state.trial.order.number, state.to_run) == state.to_run
        if state.trusted != before.trusted:
            assert before.trial is not None
            assert state.former == before.trusted
        assert state.to_run in state.kept | {""}


def test_a_replayed_order_changes_nothing() -> None:
    newer, older = Order(5, DIGESTS[0]), Order(4, DIGESTS[1])
    state = trusted(started(taken_up(State(), newer, installed=True)), newer)
    assert state.trusted == newer.digest
    assert taken_up(state, older, installed=True) == state
    assert taken_up(state, newer, installed=True) == state
    again = refused(started(taken_up(state, Order(6, DIGESTS[2]), installed=True)), "bad")
    assert taken_up(again, Order(6, DIGESTS[2]), installed=True) == again


def test_going_back_on_purpose_is_a_newer_order() -> None:
    first, second = Order(1, DIGESTS[0]), Order(2, DIGESTS[1])
    state = trusted(started(taken_up(State(), first, installed=True)), first)
    state = trusted(started(taken_up(state, second, installed=True)), second)
    back = Order(3, DIGESTS[0])
    state = trusted(started(taken_up(state, back, installed=True)), back)
    assert (state.trusted, state.former, state.last_order) == (DIGESTS[0], DIGESTS[1], 3)


def test_an_order_for_what_runs_only_counts() -> None:
    state = State(trusted=DIGESTS[0], last_order=1)
    assert taken_up(state, Order(2, DIGESTS[0]), installed=True) == State(trusted=DIGESTS[0], last_order=2)


def test_what_is_not_there_is_not_tried() -> None:
    assert taken_up(State(), Order(1, DIGESTS[0]), installed=False) == State()


def test_a_version_that_dies_again_and_again_is_refused() -> None:
    state = taken_up(State(), Order(1, DIGESTS[0]), installed=True)
    for _ in range(MOST_STARTS):
        state = started(state)
        assert state.to_run == DIGESTS[0]
    state = started(state)
    assert state.to_run == ""
    assert state.refusal is not None
    assert "before it was well" in state.refusal.reason


def test_a_trial_is_trusted_for_its_own_order_only() -> None:
    state = State(trial=Trial(Order(2, DIGESTS[0])), last_order=2)
    assert trusted(state, Order(1, DIGESTS[0])) == state


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)))
def test_a_damaged_record_is_the_beginning(document: object) -> None:
    assert state_of(document) == State()
    assert state_of({"trusted": document}) == State()


@given(
    st.builds(State, st.sampled_from(["", *DIGESTS]), st.just(""), st.integers(0, 99), st.none() | orders.map(Trial))
)
def test_a_state_survives_its_file(state: State) -> None:
    assert state_of(state.document()) == state
    if state.trial is not None:
        assert order_of(state.trial.order.document()) == state.trial.order


def test_no_digest_leaves_the_directory() -> None:
    for digest in ("../../etc", "/", "a" * 10, "current"):
        assert state_of({**State().document(), "trusted": digest}) == State()
