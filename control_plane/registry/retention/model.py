"""Immutability rules, retention policies, and what a plan is made of and says; pure.

A rule or policy of a tenant names repositories by patterns over the part of the name after the tenant; a rule of the
platform (`tenant_id` empty) by patterns over the whole name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from common.digest import Digest
from control_plane.registry.patterns import Patterns, check_patterns, compile_patterns
from control_plane.registry.retention.failures import PolicyInvalid, RuleInvalid

PLATFORM = ""
MAX_RULES = 32
MAX_COUNT = 1_000_000
MAX_DAYS = 36_500
MAX_HOURS = 24 * 366


@dataclass(frozen=True, slots=True)
class TagSelector:
    """Tags that match any of `tags` and none of `except_tags`."""

    tags: tuple[str, ...] = ("*",)
    except_tags: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises `PatternInvalid`."""
        check_patterns(self.tags)
        check_patterns(self.except_tags)

    def compiled(self) -> CompiledSelector:
        return CompiledSelector(compile_patterns(self.tags), compile_patterns(self.except_tags))


@dataclass(frozen=True, slots=True)
class CompiledSelector:
    tags: Patterns
    except_tags: Patterns

    def selects(self, tag: str) -> bool:
        return self.tags.match(tag) and not self.except_tags.match(tag)


def covers(patterns: Sequence[str], tenant_id: str, repository: str) -> bool:
    """Whether patterns of a tenant's (or the platform's) rule mean the repository."""
    name = repository if tenant_id == PLATFORM else repository.partition("/")[2]
    return compile_patterns(patterns).match(name)


@dataclass(frozen=True, slots=True)
class ImmutabilityRule:
    """A tag that it selects is made once; then it neither moves nor goes."""

    rule_id: str
    tenant_id: str
    repositories: tuple[str, ...]
    selector: TagSelector
    created_by: str
    created_at: datetime

    def check(self) -> None:
        """Raises `RuleInvalid`, `PatternInvalid`."""
        if not self.repositories or not self.selector.tags:
            raise RuleInvalid("the rule names no repository or no tag", action="give at least one pattern of each")
        check_patterns(self.repositories)
        self.selector.check()

    def holds(self, repository: str, tag: str) -> bool:
        return covers(self.repositories, self.tenant_id, repository) and self.selector.compiled().selects(tag)


def immutable_tags(rules: Sequence[ImmutabilityRule], repository: str, tags: Iterable[str]) -> frozenset[str]:
    """Those of `tags` that any of the rules holds."""
    selectors = [rule.selector.compiled() for rule in rules if covers(rule.repositories, rule.tenant_id, repository)]
    return frozenset(tag for tag in tags if any(selector.selects(tag) for selector in selectors))


class Keep(StrEnum):
    """Why a rule keeps an image."""

    ALWAYS = "always"
    NEWEST = "newest"  # the `count` pushed last
    PUSHED_WITHIN = "pushed_within"  # pushed in the last `days`
    PULLED_WITHIN = "pulled_within"  # pulled in the last `days`
    NEWEST_VERSIONS = "newest_versions"  # of semantic versions, the `count` highest of each `per`


class Per(StrEnum):
    ALL = "all"
    MAJOR = "major"
    MINOR = "minor"


_COUNTED = (Keep.NEWEST, Keep.NEWEST_VERSIONS)
_DATED = (Keep.PUSHED_WITHIN, Keep.PULLED_WITHIN)


@dataclass(frozen=True, slots=True)
class KeepRule:
    """Keeps images with a tag that it selects; `count` and `days` as `keep` needs them."""

    keep: Keep
    selector: TagSelector = TagSelector()
    count: int = 0
    days: int = 0
    per: Per = Per.ALL
    prereleases: bool = False

    def check(self) -> None:
        """Raises `PolicyInvalid`, `PatternInvalid`."""
        self.selector.check()
        if self.keep in _COUNTED and not 1 <= self.count <= MAX_COUNT:
            raise PolicyInvalid(f"a rule {self.keep.value} counts {self.count}", action=f"use 1 to {MAX_COUNT}")
        if self.keep in _DATED and not 1 <= self.days <= MAX_DAYS:
            raise PolicyInvalid(f"a rule {self.keep.value} has {self.days} days", action=f"use 1 to {MAX_DAYS}")

    def __str__(self) -> str:
        tags = ", ".join(self.selector.tags)
        if self.selector.except_tags:
            tags += f" except {', '.join(self.selector.except_tags)}"
        what = {
            Keep.ALWAYS: "always",
            Keep.NEWEST: f"the {self.count} newest",
            Keep.PUSHED_WITHIN: f"pushed within {self.days} days",
            Keep.PULLED_WITHIN: f"pulled within {self.days} days",
            Keep.NEWEST_VERSIONS: f"the {self.count} highest versions"
            + ("" if self.per is Per.ALL else f" of each {self.per.value}"),
        }[self.keep]
        return f"{what} of {tags}"


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What it may delete: tagged images all of whose tags `scope` selects and that no rule keeps, and untagged images
    that were pushed more than `untagged_days` ago (None: never). `interval_hours` None: only when somebody asks.
    """

    policy_id: str
    tenant_id: str
    name: str
    repositories: tuple[str, ...]
    rules: tuple[KeepRule, ...]
    scope: TagSelector = TagSelector()
    untagged_days: int | None = None
    enabled: bool = True
    interval_hours: int | None = 24
    next_run_at: datetime | None = None

    def check(self) -> None:
        """Raises `PolicyInvalid`, `PatternInvalid`. A policy without a rule would delete everything it sees."""
        if not self.name.strip() or len(self.name) > 63 or "\x00" in self.name:
            raise PolicyInvalid("the policy has no name of 1 to 63 characters", action="give it one")
        if not self.repositories or not 1 <= len(self.rules) <= MAX_RULES:
            raise PolicyInvalid(
                "the policy names no repository or no rule",
                action=f"give at least one repository pattern and 1 to {MAX_RULES} rules that say what is kept",
            )
        check_patterns(self.repositories)
        self.scope.check()
        for rule in self.rules:
            rule.check()
        if self.untagged_days is not None and not 0 <= self.untagged_days <= MAX_DAYS:
            raise PolicyInvalid("untagged_days is out of range", action=f"use 0 to {MAX_DAYS}, or none to keep them")
        if self.interval_hours is not None and not 1 <= self.interval_hours <= MAX_HOURS:
            raise PolicyInvalid("interval_hours is out of range", action=f"use 1 to {MAX_HOURS}, or none")

    def covers(self, repository: str) -> bool:
        return covers(self.repositories, self.tenant_id, repository)


@dataclass(frozen=True, slots=True)
class Stored:
    """One manifest of a repository as the planner sees it. `children` are the manifests that an index lists."""

    digest: Digest
    pushed_at: datetime
    tags: tuple[str, ...] = ()
    pulled_at: datetime | None = None
    children: tuple[Digest, ...] = ()
    subject: Digest | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """A repository at one moment. `running` are the manifests that instances run, `immutable` the tags that a rule
    holds; `stamp` changes with every push, deletion and move of a tag.
    """

    repository: str
    images: tuple[Stored, ...]
    stamp: str = ""
    running: frozenset[Digest] = frozenset()
    immutable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    image: Stored
    deleted: bool
    reason: str
    # The image whose fate this one shares: an index, or the subject that it is attached to.
    because_of: Digest | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Every image of the picture, once; what is deleted in an order that never leaves an index without its images."""

    decisions: tuple[Decision, ...]

    @property
    def kept(self) -> int:
        return len(self.decisions) - self.deleted

    @property
    def deleted(self) -> int:
        return sum(decision.deleted for decision in self.decisions)

    def groups(self) -> list[tuple[Stored, ...]]:
        """What goes together, in one transaction: images that refer to each other, the referring ones first."""
        going = {decision.image.digest: decision for decision in self.decisions if decision.deleted}
        leader = {digest: digest for digest in going}

        def leader_of(digest: Digest) -> Digest:
            while leader[digest] != digest:
                leader[digest] = leader[leader[digest]]
                digest = leader[digest]
            return digest

        for digest, decision in going.items():
            for other in (*decision.image.children, decision.image.subject, decision.because_of):
                if other is not None and other in going:
                    leader[leader_of(other)] = leader_of(digest)
        grouped: dict[Digest, list[Stored]] = {}
        for digest, decision in going.items():
            grouped.setdefault(leader_of(digest), []).append(decision.image)
        return [tuple(members) for members in grouped.values()]


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED = (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True, slots=True)
class Run:
    """One application of a policy. `skipped` images were to go, but somebody refused or they changed meanwhile."""

    run_id: str
    policy_id: str
    tenant_id: str
    state: RunState
    started_by: str
    created_at: datetime
    ended_at: datetime | None = None
    repositories: int = 0
    examined: int = 0
    kept: int = 0
    deleted: int = 0
    skipped: int = 0
    detail: str = ""
