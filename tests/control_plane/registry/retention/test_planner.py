"""What a plan keeps and deletes, and why; for chosen repositories and for arbitrary ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from common.digest import Digest
from control_plane.registry.retention.model import (
    Keep,
    KeepRule,
    Per,
    Picture,
    Plan,
    RetentionPolicy,
    Stored,
    TagSelector,
)
from control_plane.registry.retention.planner import plan

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def digest(name: str) -> Digest:
    return Digest.of(name.encode())


def image(name: str, *tags: str, days: float = 0, pulled: float | None = None, **more: object) -> Stored:
    pulled_at = None if pulled is None else NOW - timedelta(days=pulled)
    return Stored(digest(name), NOW - timedelta(days=days), tags, pulled_at, **more)  # type: ignore[arg-type]


def policy(*rules: KeepRule, **more: object) -> RetentionPolicy:
    return RetentionPolicy("p", "t-acme", "tidy", ("**",), rules or (KeepRule(Keep.NEWEST, count=1),), **more)  # type: ignore[arg-type]


def planned(which: RetentionPolicy, *images: Stored, others: tuple[RetentionPolicy, ...] = (), **more: object) -> Plan:
    return plan(which, others, Picture("acme/web", images, **more), NOW)  # type: ignore[arg-type]


def gone(made: Plan) -> set[Digest]:
    return {decision.image.digest for decision in made.decisions if decision.deleted}


def digests(*names: str) -> set[Digest]:
    return {digest(name) for name in names}


def reason(made: Plan, name: str) -> str:
    return next(each.reason for each in made.decisions if each.image.digest == digest(name))


def test_the_newest_stay_and_the_rest_goes_each_with_its_reason() -> None:
    made = planned(
        policy(KeepRule(Keep.NEWEST, count=2)),
        image("a", "1", days=3),
        image("b", "2", days=2),
        image("c", "3", days=1),
    )
    assert gone(made) == digests("a")
    assert reason(made, "a") == "no rule keeps it"
    assert reason(made, "b") == "kept by rule: the 2 newest of *"


def test_rules_join_by_or() -> None:
    rules = (KeepRule(Keep.NEWEST, count=1), KeepRule(Keep.ALWAYS, TagSelector(("release-*",))))
    made = planned(policy(*rules), image("a", "release-1", days=9), image("b", "b", days=5), image("c", "c"))
    assert gone(made) == digests("b")


def test_what_was_pushed_or_pulled_lately_stays() -> None:
    rules = (KeepRule(Keep.PUSHED_WITHIN, days=7), KeepRule(Keep.PULLED_WITHIN, days=30))
    made = planned(
        policy(*rules),
        image("young", "1", days=6),
        image("pulled", "2", days=90, pulled=29),
        image("old", "3", days=90, pulled=31),
        image("never", "4", days=8),
    )
    assert gone(made) == digests("old", "never")


def test_the_highest_versions_of_each_line_stay() -> None:
    tags = ["v1.0.0", "1.0.1", "1.1.0", "1.1.1-rc.1", "2.0.0", "2.0.0-rc.1", "latest"]
    images = [image(tag, tag, days=9) for tag in tags]
    rule = KeepRule(Keep.NEWEST_VERSIONS, count=1, per=Per.MINOR)
    assert gone(planned(policy(rule), *images)) == digests("v1.0.0", "1.1.1-rc.1", "2.0.0-rc.1", "latest")
    per_major = replace(rule, per=Per.MAJOR)
    assert gone(planned(policy(per_major), *images)) == digests(*tags) - digests("1.1.0", "2.0.0")
    with_previews = replace(rule, per=Per.ALL, count=2, prereleases=True)
    assert gone(planned(policy(with_previews), *images)) == digests(*tags) - digests("2.0.0", "2.0.0-rc.1")


def test_a_tag_outside_the_scope_keeps_its_image() -> None:
    made = planned(
        policy(scope=TagSelector(("dev-*",))),
        image("new", "dev-2"),
        image("old", "dev-1", days=5),
        image("both", "dev-0", "prod", days=9),
    )
    assert gone(made) == digests("old")
    assert "prod" in reason(made, "both")


def test_another_policy_that_covers_the_repository_keeps_too() -> None:
    other = replace(policy(KeepRule(Keep.ALWAYS, TagSelector(("gold",)))), policy_id="q", name="gold")
    images = (image("new", "new"), image("old", "gold", days=50))
    assert gone(planned(policy(), *images)) == digests("old")
    made = planned(policy(), *images, others=(other,))
    assert gone(made) == set()
    assert reason(made, "old").startswith("kept by policy gold")
    assert gone(planned(policy(), *images, others=(replace(other, enabled=False),))) == digests("old")
    assert gone(planned(policy(), *images, others=(replace(other, repositories=("api",)),))) == digests("old")


def test_immutable_tags_and_what_runs_stay() -> None:
    made = planned(
        policy(),
        image("new", "new"),
        image("frozen", "1.0", days=9),
        image("running", "0.9", days=99),
        running=frozenset(digests("running")),
        immutable=frozenset({"1.0"}),
    )
    assert gone(made) == set()
    assert (reason(made, "frozen"), reason(made, "running")) == ("the tag 1.0 is immutable", "an instance runs it")


def test_an_index_keeps_its_images_and_takes_them_along() -> None:
    images = (
        image("new", "2", children=(digest("shared"), digest("new-arm"))),
        image("old", "1", days=9, children=(digest("shared"), digest("old-arm"), digest("tagged"))),
        image("shared", days=9),
        image("new-arm"),
        image("old-arm", days=9),
        image("tagged", "keep-me", days=9),
    )
    rules = (KeepRule(Keep.NEWEST, count=1), KeepRule(Keep.ALWAYS, TagSelector(("keep-me",))))
    made = planned(policy(*rules), *images)
    assert gone(made) == digests("old", "old-arm")
    (group,) = made.groups()
    assert [each.digest for each in group] == [digest("old"), digest("old-arm")]
    assert reason(made, "shared") == f"part of {digest('new')}, which stays"


def test_attachments_share_the_fate_of_their_subject() -> None:
    images = (
        image("new", "2"),
        image("new-sbom", subject=digest("new"), days=500),
        image("new-sig", f"sha256-{digest('new').hex}.sig", days=500),
        image("sig-of-sbom", subject=digest("new-sbom"), days=500),
        image("old", "1", days=9),
        image("old-sig", f"sha256-{digest('old').hex}.sig"),
        image("old-sbom", subject=digest("old")),
    )
    made = planned(policy(untagged_days=1), *images)
    assert gone(made) == digests("old", "old-sig", "old-sbom")
    assert len(made.groups()) == 1


def test_a_signature_is_no_image_that_counts() -> None:
    images = (image("a", "1", days=2), image("a-sig", f"sha256-{digest('a').hex}.sig", days=0))
    assert gone(planned(policy(), *images)) == set()


def test_untagged_images_go_only_after_their_time() -> None:
    images = (image("new", "1"), image("lost", days=9), image("fresh", days=1))
    assert gone(planned(policy(), *images)) == set()
    made = planned(policy(untagged_days=7), *images)
    assert gone(made) == digests("lost")
    assert reason(made, "fresh") == "untagged, but pushed within 7 days"


_NAMES = [f"image-{number}" for number in range(8)]
_TAGS = ["1.0.0", "1.0.1", "v1.1.0", "2.0.0-rc.1", "latest", "dev-1", "dev-2", "prod"] + [
    f"sha256-{digest(name).hex}.sig" for name in _NAMES[:3]
]
_selectors = st.builds(
    TagSelector,
    tags=st.lists(st.sampled_from(["*", "dev-*", "1.*", "prod"]), min_size=1, max_size=2).map(tuple),
    except_tags=st.lists(st.sampled_from(["latest", "dev-1"]), max_size=1).map(tuple),
)
_rules = st.builds(
    KeepRule,
    keep=st.sampled_from(list(Keep)),
    selector=_selectors,
    count=st.integers(1, 3),
    days=st.integers(1, 10),
    per=st.sampled_from(list(Per)),
    prereleases=st.booleans(),
)
_policies = st.builds(
    RetentionPolicy,
    policy_id=st.just("p"),
    tenant_id=st.just("t"),
    name=st.just("tidy"),
    repositories=st.just(("**",)),
    rules=st.lists(_rules, min_size=1, max_size=3).map(tuple),
    scope=_selectors,
    untagged_days=st.none() | st.integers(0, 8),
)


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, min_size=1))
    owners = {tag: draw(st.sampled_from(names)) for tag in draw(st.lists(st.sampled_from(_TAGS), unique=True))}
    images = [
        Stored(
            digest=digest(name),
            pushed_at=NOW - timedelta(days=draw(st.integers(0, 12))),
            tags=tuple(sorted(tag for tag, owner in owners.items() if owner == name)),
            pulled_at=draw(st.none() | st.integers(0, 12).map(lambda days: NOW - timedelta(days=days))),
            children=tuple(map(digest, draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=3)))),
            subject=draw(st.none() | st.sampled_from(_NAMES).map(digest)),
        )
        for name in names
    ]
    running = draw(st.frozensets(st.sampled_from(names).map(digest), max_size=2))
    immutable = draw(st.frozensets(st.sampled_from(_TAGS), max_size=2))
    return Picture("acme/web", tuple(images), "", running, immutable)


def without(picture: Picture, removed: set[Digest]) -> Picture:
    return replace(picture, images=tuple(each for each in picture.images if each.digest not in removed))


@settings(max_examples=300, deadline=None)
@given(_policies, pictures())
def test_every_image_gets_one_decision_and_nothing_that_stays_misses_a_part(
    which: RetentionPolicy, picture: Picture
) -> None:
    made = plan(which, (), picture, NOW)
    assert sorted(each.image.digest for each in made.decisions) == sorted(each.digest for each in picture.images)
    doomed = gone(made)
    for each in picture.images:
        if each.digest in doomed:
            assert each.digest not in picture.running
            assert picture.immutable.isdisjoint(each.tags)
        else:
            assert doomed.isdisjoint(each.children)
        if each.subject is not None and each.subject not in doomed and each.digest in doomed:
            assert each.subject not in {other.digest for other in picture.images} or each.subject == each.digest
    grouped = [each.digest for group in made.groups() for each in group]
    assert sorted(grouped) == sorted(doomed)


@settings(max_examples=300, deadline=None)
@given(_policies, pictures())
def test_what_any_single_rule_keeps_stays(which: RetentionPolicy, picture: Picture) -> None:
    doomed = gone(plan(which, (), picture, NOW))
    for rule in which.rules:
        alone = plan(replace(which, rules=(rule,)), (), picture, NOW)
        assert doomed <= gone(alone)


@settings(max_examples=300, deadline=None)
@given(_policies, pictures())
def test_the_plan_of_what_is_left_deletes_nothing_more(which: RetentionPolicy, picture: Picture) -> None:
    left = without(picture, gone(plan(which, (), picture, NOW)))
    assert gone(plan(which, (), left, NOW)) == set()


@settings(max_examples=300, deadline=None)
@given(_policies, _rules, pictures())
def test_another_rule_never_makes_more_go(which: RetentionPolicy, more: KeepRule, picture: Picture) -> None:
    wider = replace(which, rules=(*which.rules, more))
    assert gone(plan(wider, (), picture, NOW)) <= gone(plan(which, (), picture, NOW))
    other = replace(which, policy_id="q", rules=(more,))
    assert gone(plan(which, (other,), picture, NOW)) == gone(plan(wider, (), picture, NOW))


@settings(max_examples=200, deadline=None)
@given(_policies, pictures(), st.integers(0, 100))
def test_any_part_of_a_plan_carried_out_leaves_the_rest_of_it(
    which: RetentionPolicy, picture: Picture, cut: int
) -> None:
    """A run that is killed between two groups goes on with what it would have deleted, and nothing else."""
    made = plan(which, (), picture, NOW)
    groups = made.groups()
    done = {each.digest for group in groups[: cut % (len(groups) + 1)] for each in group}
    rest = gone(plan(which, (), without(picture, done), NOW))
    assert rest == gone(made) - done
