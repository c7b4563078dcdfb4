"""What a retention policy keeps and deletes of one repository, with the reason for each image; pure.

Rules join by "or": what any rule keeps stays, also a rule of another enabled policy that covers the repository. Beyond
the rules, an image stays if a tag of it is immutable or outside the policy's scope, if an instance runs it, if it
belongs to an index that stays, or if it is attached to something that stays. Attachments (signatures, SBOMs,
attestations: by `subject`, or by cosign's tags `sha256-<hex>.sig`) count as no image of their own: they go with their
subject, and so do the untagged parts of an index with the last index that lists them.

Invariants (tests hold them for arbitrary repositories): nothing is deleted that a rule keeps or that a kept image
refers to; the plan of what is left deletes nothing more; another rule never makes more images go.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from common.digest import Digest
from control_plane.registry.retention.model import (
    CompiledSelector,
    Decision,
    Keep,
    KeepRule,
    Per,
    Picture,
    Plan,
    RetentionPolicy,
    Stored,
)
from control_plane.registry.retention.semver import Version, version_of

# cosign's tag scheme, and the tag of the referrers of clients that know no referrers API (distribution specification,
# "Referrers Tag Schema").
_ATTACHED = re.compile(r"(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})(?:\.(?:sig|att|sbom))?")


def subject_of_tag(tag: str) -> Digest | None:
    """What a tag of cosign's scheme is attached to."""
    matched = _ATTACHED.fullmatch(tag)
    if matched is None or len(matched[2]) != (64 if matched[1] == "sha256" else 128):
        return None
    return Digest(matched[1], matched[2])


def plan(policy: RetentionPolicy, others: Sequence[RetentionPolicy], picture: Picture, now: datetime) -> Plan:
    """`others`: the tenant's other enabled policies; those that do not cover the repository are ignored."""
    graph = _Graph(picture.images)
    reasons = _kept_at_first(policy, others, picture, graph, now)
    doomed = _doomed(policy, graph, reasons, now)
    _spread(graph, reasons, doomed)
    return Plan(tuple(_decisions(policy, graph, reasons, doomed)))


class _Graph:
    """Who refers to whom, among the images of the repository."""

    def __init__(self, images: Iterable[Stored]) -> None:
        self.images = {image.digest: image for image in images}
        self.own_tags = {digest: _own_tags(image) for digest, image in self.images.items()}
        self.parents: dict[Digest, list[Digest]] = defaultdict(list)
        self.attachments: dict[Digest, list[Digest]] = defaultdict(list)
        self.subjects: dict[Digest, list[Digest]] = {}
        for digest, image in self.images.items():
            for child in image.children:
                if child in self.images and child != digest:
                    self.parents[child].append(digest)
            subjects = {image.subject, *map(subject_of_tag, image.tags)} - {None, digest}
            self.subjects[digest] = sorted(each for each in subjects if each in self.images)
            for subject in self.subjects[digest]:
                self.attachments[subject].append(digest)

    def is_attachment(self, digest: Digest) -> bool:
        """It has nothing but its subject: no tag of its own says that somebody wants it for itself."""
        return bool(self.subjects[digest]) and not self.own_tags[digest]

    def ordinary(self) -> list[Stored]:
        """Images that stand for themselves, newest first."""
        own = [image for image in self.images.values() if not self.is_attachment(image.digest)]
        return sorted(own, key=lambda image: (image.pushed_at, image.digest), reverse=True)


def _own_tags(image: Stored) -> tuple[str, ...]:
    return tuple(tag for tag in image.tags if subject_of_tag(tag) is None)


def _kept_at_first(
    policy: RetentionPolicy, others: Sequence[RetentionPolicy], picture: Picture, graph: _Graph, now: datetime
) -> dict[Digest, str]:
    reasons: dict[Digest, str] = {}
    tagged = [image for image in graph.ordinary() if graph.own_tags[image.digest]]
    for rule in policy.rules:
        for digest in _kept_by(rule, tagged, now):
            reasons.setdefault(digest, f"kept by rule: {rule}")
    for other in others:
        if other.policy_id != policy.policy_id and other.enabled and other.covers(picture.repository):
            for rule in other.rules:
                for digest in _kept_by(rule, tagged, now):
                    reasons.setdefault(digest, f"kept by policy {other.name}: {rule}")
    scope = policy.scope.compiled()
    for image in picture.images:
        reason = _beyond_rules(image, graph.own_tags[image.digest], picture, scope)
        if reason is not None:
            reasons.setdefault(image.digest, reason)
    return reasons


def _beyond_rules(image: Stored, own_tags: Sequence[str], picture: Picture, scope: CompiledSelector) -> str | None:
    if image.digest in picture.running:
        return "an instance runs it"
    held = [tag for tag in image.tags if tag in picture.immutable]
    if held:
        return f"the tag {held[0]} is immutable"
    foreign = [tag for tag in own_tags if not scope.selects(tag)]
    return f"the tag {foreign[0]} is outside the policy's scope" if foreign else None


def _doomed(
    policy: RetentionPolicy, graph: _Graph, reasons: Mapping[Digest, str], now: datetime
) -> dict[Digest, tuple[str, Digest | None]]:
    """What would go, before it is seen who still needs it: with the reason, and the image that it follows."""
    doomed: dict[Digest, tuple[str, Digest | None]] = {}
    for image in graph.ordinary():
        if image.digest in reasons:
            continue
        if graph.own_tags[image.digest]:
            doomed[image.digest] = ("no rule keeps it", None)
        elif not graph.parents[image.digest] and _is_stale(policy, image, now):
            doomed[image.digest] = (f"untagged, and pushed more than {policy.untagged_days} days ago", None)
    # What follows: parts of indexes that go, attachments of images that go.
    waiting = deque(doomed)
    while waiting:
        above = waiting.popleft()
        for digest in graph.attachments[above]:
            if _goes_with(graph.subjects[digest], doomed, reasons, digest):
                doomed[digest] = (f"attached to {above}, which goes", above)
                waiting.append(digest)
        for digest in graph.images[above].children:
            if (
                digest in graph.images
                and not graph.own_tags[digest]
                and not graph.subjects[digest]
                and _goes_with(graph.parents[digest], doomed, reasons, digest)
            ):
                doomed[digest] = (f"part of {above}, which goes", above)
                waiting.append(digest)
    return doomed


def _is_stale(policy: RetentionPolicy, image: Stored, now: datetime) -> bool:
    return policy.untagged_days is not None and now - image.pushed_at > timedelta(days=policy.untagged_days)


def _goes_with(
    above: Sequence[Digest],
    doomed: Mapping[Digest, tuple[str, Digest | None]],
    reasons: Mapping[Digest, str],
    digest: Digest,
) -> bool:
    return digest not in doomed and digest not in reasons and all(each in doomed for each in above)


def _spread(graph: _Graph, reasons: dict[Digest, str], doomed: dict[Digest, tuple[str, Digest | None]]) -> None:
    """What stays keeps its parts and its attachments, and they keep theirs."""
    waiting = deque(digest for digest in graph.images if digest not in doomed)
    while waiting:
        above = waiting.popleft()
        for digest in graph.images[above].children:
            if doomed.pop(digest, None) is not None:
                reasons[digest] = f"part of {above}, which stays"
                waiting.append(digest)
        for digest in graph.attachments[above]:
            if doomed.pop(digest, None) is not None:
                reasons[digest] = f"attached to {above}, which stays"
                waiting.append(digest)


def _decisions(
    policy: RetentionPolicy,
    graph: _Graph,
    reasons: Mapping[Digest, str],
    doomed: Mapping[Digest, tuple[str, Digest | None]],
) -> Iterable[Decision]:
    """What goes comes in the order of `doomed`: an index before its parts, a subject before what is attached."""
    for digest, (reason, above) in doomed.items():
        yield Decision(graph.images[digest], True, reason, above)
    for digest, image in graph.images.items():
        if digest not in doomed:
            yield Decision(image, False, reasons.get(digest) or _silent_reason(policy, graph, image))


def _silent_reason(policy: RetentionPolicy, graph: _Graph, image: Stored) -> str:
    if graph.subjects[image.digest]:
        return f"attached to {graph.subjects[image.digest][0]}, which stays"
    if graph.parents[image.digest]:
        return f"part of {graph.parents[image.digest][0]}, which stays"
    if policy.untagged_days is None:
        return "untagged; the policy deletes no untagged images"
    return f"untagged, but pushed within {policy.untagged_days} days"


def _kept_by(rule: KeepRule, newest_first: Sequence[Stored], now: datetime) -> Iterable[Digest]:
    selector = rule.selector.compiled()
    selected = [image for image in newest_first if any(selector.selects(tag) for tag in image.tags)]
    if rule.keep is Keep.ALWAYS:
        return [image.digest for image in selected]
    if rule.keep is Keep.NEWEST:
        return [image.digest for image in selected[: rule.count]]
    if rule.keep is Keep.NEWEST_VERSIONS:
        return _newest_versions(rule, selected)
    since = now - timedelta(days=rule.days)
    if rule.keep is Keep.PUSHED_WITHIN:
        return [image.digest for image in selected if image.pushed_at >= since]
    return [image.digest for image in selected if image.pulled_at is not None and image.pulled_at >= since]


@dataclass(frozen=True, slots=True)
class _Released:
    version: Version
    digest: Digest


def _newest_versions(rule: KeepRule, selected: Sequence[Stored]) -> Iterable[Digest]:
    """The `count` highest versions of each line; two tags of one version (`1.2.3`, `v1.2.3`) count once."""
    selector = rule.selector.compiled()
    lines: dict[tuple[int, ...], list[_Released]] = defaultdict(list)
    for image in selected:
        for tag in filter(selector.selects, image.tags):
            version = version_of(tag)
            if version is not None and (rule.prereleases or not version.prerelease):
                lines[_line(rule.per, version)].append(_Released(version, image.digest))
    kept: list[Digest] = []
    for released in lines.values():
        highest = sorted({each.version.precedence for each in released}, reverse=True)[: rule.count]
        kept += [each.digest for each in released if each.version.precedence in highest]
    return kept


def _line(per: Per, version: Version) -> tuple[int, ...]:
    return {Per.ALL: (), Per.MAJOR: (version.major,), Per.MINOR: (version.major, version.minor)}[per]
