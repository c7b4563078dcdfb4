"""What is known of a machine's power; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from common.errors import Conflict, Denied, Invalid, NotFound


class BmcInvalid(Invalid):
    """It is no description of a BMC, or no order."""

    code = "bmc_invalid"


class BmcUnknown(NotFound):
    """Nothing is known of a BMC of that machine."""

    code = "bmc_unknown"


class PowerBusy(Conflict):
    """Another order for that machine is not over."""

    code = "power_busy"


class PowerOrderUnknown(NotFound):
    code = "power_order_unknown"


class PowerOrderOver(Conflict):
    """It is done, or cannot be held back any more."""

    code = "power_order_over"


class PowerReportRefused(Denied):
    """The order is not this regional's."""

    code = "power_report_refused"


class BmcProtocol(StrEnum):
    REDFISH = "redfish"
    IPMI = "ipmi"


class PowerDeed(StrEnum):
    """`OFF` is the plug, `SHUTDOWN` asks the system, `NETWORK` restarts and boots from the network this once."""

    LOOK = "look"
    ON = "on"
    OFF = "off"
    SHUTDOWN = "shutdown"
    CYCLE = "cycle"
    NETWORK = "network"


class PowerState(StrEnum):
    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class OrderState(StrEnum):
    """`UNCERTAIN`: it was begun, and nobody knows how it ended; nothing is repeated by itself."""

    WAITING = "waiting"
    TAKEN = "taken"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        return self in (OrderState.WAITING, OrderState.TAKEN, OrderState.RUNNING)


@dataclass(frozen=True, slots=True)
class Bmc:
    """`sealed`: user and password. `state`: what the BMC said last, at `state_at`."""

    machine_id: str
    protocol: BmcProtocol
    address: str
    port: int
    fingerprint: str
    system: str
    updated_at: datetime
    sealed: bytes = field(repr=False)
    state: PowerState = PowerState.UNKNOWN
    state_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Login:
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PowerOrder:
    """`tenant_id`: whose machine it was when it was ordered. `begin_by`: not begun by then, never. `regional_id` ""
    until one has taken it; `declined`: those that do not reach the BMC. `task_id`: of the installation it is for.
    """

    id: str
    machine_id: str
    idc_id: str
    tenant_id: str
    deed: PowerDeed
    asked_by: str
    asked_at: datetime
    begin_by: datetime
    state: OrderState = OrderState.WAITING
    regional_id: str = ""
    declined: tuple[str, ...] = ()
    power: PowerState = PowerState.UNKNOWN
    detail: str = ""
    task_id: str = ""
    ended_at: datetime | None = None
