from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.fleet.placement.model import CapacityPolicy, Operator, PlacementInvalid, Requirement, Rules, Spread
from control_plane.fleet.placement.selectors import check_policy, check_rules, parse_requirement, written

WORDS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,10}[A-Za-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        ("rack=r1", Requirement("rack", Operator.IN, ("r1",))),
        (" rack == r1 ", Requirement("rack", Operator.IN, ("r1",))),
        ("rack!=r1", Requirement("rack", Operator.NOT_IN, ("r1",))),
        ("rack in (r2, r1)", Requirement("rack", Operator.IN, ("r1", "r2"))),
        ("rack notin (r1)", Requirement("rack", Operator.NOT_IN, ("r1",))),
        ("example.com/gpu", Requirement("example.com/gpu", Operator.EXISTS)),
        ("!gpu", Requirement("gpu", Operator.ABSENT)),
    ],
)
def test_requirements_are_written_as_in_kubernetes(text: str, requirement: Requirement) -> None:
    assert parse_requirement(text) == requirement


@pytest.mark.parametrize(
    "text", ["", "=", "rack=", "rack in ()", "rack in r1", "a b", "rack in (a b)", "-x", "x" * 200]
)
def test_what_says_nothing_of_a_label_is_refused(text: str) -> None:
    with pytest.raises(PlacementInvalid, match="says nothing of a label"):
        parse_requirement(text)


@given(
    st.one_of(
        st.builds(Requirement, WORDS, st.sampled_from([Operator.EXISTS, Operator.ABSENT])),
        st.builds(
            lambda key, operator, values: Requirement(key, operator, tuple(sorted(values))),
            WORDS,
            st.sampled_from([Operator.IN, Operator.NOT_IN]),
            st.sets(WORDS, min_size=1, max_size=4),
        ),
    )
)
def test_what_is_written_is_read_again(requirement: Requirement) -> None:
    assert parse_requirement(written(requirement)) == requirement


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(PlacementInvalid):
        assert parse_requirement(text).key


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        (Rules(count=-1), "count"),
        (Rules(count=10_001), "count"),
        (Rules(per_host=0), "per_host"),
        (Rules(None, per_host=2), "per_host"),
        (Rules(None, spread=(Spread("idc"),)), "per_host"),
        (Rules(spread=(Spread("idc", 0),)), "spread.max_skew"),
        (Rules(spread=(Spread("no key"),)), "spread.by"),
        (Rules(near=("db",), apart=("db",)), "near"),
        (Rules(idcs=("east",) * 33), "idcs"),
        (Rules(hosts=("h",) * 1001), "hosts"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(rules: Rules, field: str) -> None:
    with pytest.raises(PlacementInvalid) as refused:
        check_rules(rules)
    assert refused.value.facts["field"] == field


@pytest.mark.parametrize(
    "policy", [CapacityPolicy(reserve_cpus=-1), CapacityPolicy(cpu_overcommit=0), CapacityPolicy(memory_overcommit=101)]
)
def test_a_policy_out_of_bounds_is_refused(policy: CapacityPolicy) -> None:
    with pytest.raises(PlacementInvalid):
        check_policy(policy)
