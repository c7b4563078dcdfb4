"""How immutability and retention refuse."""

from __future__ import annotations

from common.errors import Conflict, Invalid, NotFound


class TagImmutable(Conflict):
    """A rule says that the tag neither moves nor goes; `facts["rule"]` is its id."""

    code = "tag_immutable"


class RuleUnknown(NotFound):
    code = "immutability_rule_unknown"


class RuleInvalid(Invalid):
    code = "immutability_rule_invalid"


class PolicyUnknown(NotFound):
    code = "retention_policy_unknown"


class PolicyInvalid(Invalid):
    code = "retention_policy_invalid"


class PolicyNameTaken(Conflict):
    code = "retention_policy_exists"


class RunUnknown(NotFound):
    code = "retention_run_unknown"


class RunEnded(Conflict):
    code = "retention_run_ended"
