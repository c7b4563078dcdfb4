"""The wire forms of immutability rules, retention policies, previews and runs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from control_plane.registry.retention.model import (
    MAX_COUNT,
    MAX_DAYS,
    MAX_HOURS,
    MAX_RULES,
    ImmutabilityRule,
    Keep,
    KeepRule,
    Per,
    RetentionPolicy,
    Run,
    RunState,
    TagSelector,
)
from control_plane.registry.retention.service import Previewed

_Patterns = Annotated[list[Annotated[str, Field(min_length=1, max_length=255)]], Field(max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TagSelectorBody(_Body):
    """Tags that match any of `tags` and none of `except_tags`; `*` is any text, `?` one character."""

    tags: _Patterns = Field(default_factory=lambda: ["*"])
    except_tags: _Patterns = Field(default_factory=list)

    def to_model(self) -> TagSelector:
        return TagSelector(tuple(self.tags), tuple(self.except_tags))

    @classmethod
    def of(cls, selector: TagSelector) -> TagSelectorBody:
        return cls(tags=list(selector.tags), except_tags=list(selector.except_tags))


class ImmutabilityRuleBody(TagSelectorBody):
    """`repositories`: patterns over the name after the tenant, for the platform over the whole name; `**` as a whole
    component is any number of them.
    """

    repositories: _Patterns = Field(default_factory=lambda: ["**"])


class ImmutabilityRuleView(BaseModel):
    id: str
    repositories: list[str]
    tags: list[str]
    except_tags: list[str]
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, rule: ImmutabilityRule) -> ImmutabilityRuleView:
        return cls(
            id=rule.rule_id,
            repositories=list(rule.repositories),
            tags=list(rule.selector.tags),
            except_tags=list(rule.selector.except_tags),
            created_by=rule.created_by,
            created_at=rule.created_at,
        )


class KeepRuleBody(TagSelectorBody):
    """What stays. `count` for newest and newest_versions, `days` for pushed_within and pulled_within."""

    keep: Keep
    count: int = Field(default=0, ge=0, le=MAX_COUNT)
    days: int = Field(default=0, ge=0, le=MAX_DAYS)
    per: Per = Field(default=Per.ALL, description="of newest_versions: count in each major or minor line")
    prereleases: bool = Field(default=False, description="of newest_versions: pre-releases count as well")

    def to_rule(self) -> KeepRule:
        return KeepRule(self.keep, self.to_model(), self.count, self.days, self.per, self.prereleases)

    @classmethod
    def of_rule(cls, rule: KeepRule) -> KeepRuleBody:
        return cls(
            tags=list(rule.selector.tags),
            except_tags=list(rule.selector.except_tags),
            keep=rule.keep,
            count=rule.count,
            days=rule.days,
            per=rule.per,
            prereleases=rule.prereleases,
        )


class RetentionPolicyBody(_Body):
    """What no rule keeps goes, as far as `scope` selects all its tags; untagged images go after `untagged_days`."""

    name: str = Field(min_length=1, max_length=63)
    repositories: _Patterns = Field(default_factory=lambda: ["**"])
    rules: list[KeepRuleBody] = Field(min_length=1, max_length=MAX_RULES)
    scope: TagSelectorBody = Field(default_factory=TagSelectorBody)
    untagged_days: int | None = Field(default=None, ge=0, le=MAX_DAYS, description="none: untagged images stay")
    enabled: bool = True
    interval_hours: int | None = Field(default=24, ge=1, le=MAX_HOURS, description="none: only when asked")

    def to_draft(self) -> RetentionPolicy:
        return RetentionPolicy(
            policy_id="",
            tenant_id="",
            name=self.name,
            repositories=tuple(self.repositories),
            rules=tuple(rule.to_rule() for rule in self.rules),
            scope=self.scope.to_model(),
            untagged_days=self.untagged_days,
            enabled=self.enabled,
            interval_hours=self.interval_hours,
        )


class RetentionPolicyView(RetentionPolicyBody):
    id: str
    next_run_at: datetime | None

    @classmethod
    def of(cls, policy: RetentionPolicy) -> RetentionPolicyView:
        return cls(
            id=policy.policy_id,
            name=policy.name,
            repositories=list(policy.repositories),
            rules=[KeepRuleBody.of_rule(rule) for rule in policy.rules],
            scope=TagSelectorBody.of(policy.scope),
            untagged_days=policy.untagged_days,
            enabled=policy.enabled,
            interval_hours=policy.interval_hours,
            next_run_at=policy.next_run_at,
        )


class DecisionView(BaseModel):
    """`size_bytes` is what a pull of the image moves; deleting frees only what no other image shares."""

    repository: str
    digest: str
    tags: list[str]
    deleted: bool = Field(description="whether a run would delete it now")
    reason: str
    pushed_at: datetime
    pulled_at: datetime | None
    size_bytes: int

    @classmethod
    def of(cls, previewed: Previewed) -> DecisionView:
        decision = previewed.decision
        image = decision.image
        return cls(
            repository=previewed.repository,
            digest=str(image.digest),
            tags=list(image.tags),
            deleted=decision.deleted,
            reason=decision.reason,
            pushed_at=image.pushed_at,
            pulled_at=image.pulled_at,
            size_bytes=image.size_bytes,
        )


class RunView(BaseModel):
    """`skipped` images were to go, but somebody refused or they changed meanwhile."""

    id: str
    policy_id: str
    state: RunState
    started_by: str
    created_at: datetime
    ended_at: datetime | None
    repositories: int
    examined: int
    kept: int
    deleted: int
    skipped: int
    detail: str

    @classmethod
    def of(cls, run: Run) -> RunView:
        return cls(
            id=run.run_id,
            policy_id=run.policy_id,
            state=run.state,
            started_by=run.started_by,
            created_at=run.created_at,
            ended_at=run.ended_at,
            repositories=run.repositories,
            examined=run.examined,
            kept=run.kept,
            deleted=run.deleted,
            skipped=run.skipped,
            detail=run.detail,
        )
