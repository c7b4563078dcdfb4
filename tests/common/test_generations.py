from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Stale
from common.generations import HeldSet, changes_between

sets = st.dictionaries(st.integers(0, 9), st.integers(0, 3))


@given(st.lists(sets, min_size=1))
def test_a_receiver_that_applies_every_change_holds_what_the_sender_has(states: list[dict[int, int]]) -> None:
    held: HeldSet[int, int] = HeldSet()
    held.replace(1, states[0])
    for generation, (old, new) in enumerate(pairwise(states), 1):
        changes = changes_between(old, generation, new, generation + 1)
        held.apply(changes.applies_to, changes.results_in, changes.changed, changes.removed)
        assert held.items == new
        assert held.generation == generation + 1


@given(sets, sets, st.integers(0, 5), st.integers(0, 5))
def test_a_change_for_another_generation_changes_nothing(
    held_items: dict[int, int], new: dict[int, int], held_generation: int, applies_to: int
) -> None:
    held: HeldSet[int, int] = HeldSet(held_generation, dict(held_items))
    if applies_to == held_generation:
        return
    with pytest.raises(Stale, match="ask for the full set"):
        held.apply(applies_to, applies_to + 1, new, ())
    assert (held.generation, held.items) == (held_generation, held_items)


@given(sets, sets)
def test_changes_name_only_what_differs(old: dict[int, int], new: dict[int, int]) -> None:
    changes = changes_between(old, 1, new, 2)
    assert all(old.get(key) != value for key, value in changes.changed.items())
    assert changes.removed == old.keys() - new.keys()
