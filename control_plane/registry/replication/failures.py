"""What replication refuses."""

from __future__ import annotations

from common.errors import Conflict, Invalid, NotFound


class EndpointUnknown(NotFound):
    code = "replication_endpoint_unknown"


class RuleUnknown(NotFound):
    code = "replication_rule_unknown"


class ExecutionUnknown(NotFound):
    code = "replication_execution_unknown"


class NameTaken(Conflict):
    """The owner has an endpoint or a rule of this name."""

    code = "replication_name_taken"


class EndpointInUse(Conflict):
    """Rules name it."""

    code = "replication_endpoint_in_use"


class TooMany(Conflict):
    """An owner has as many as it may have."""

    code = "replication_too_many"


class RuleInvalid(Invalid):
    code = "replication_rule_invalid"


class Unwanted(Conflict):
    """What is here does not let itself be copied; another try does not help."""

    code = "replication_unwanted"
