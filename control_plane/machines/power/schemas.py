"""Wire models of `/api/v1/machines/{machine}/power`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from control_plane.machines.power.model import Bmc, BmcProtocol, OrderState, PowerDeed, PowerOrder, PowerState
from control_plane.machines.power.service import WITHIN, NewBmc, Power

Name = Annotated[str, Field(max_length=300, pattern="^[^\\x00]*$")]


class BmcBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    protocol: BmcProtocol
    address: Name = Field(description="an IP address, in a network that the regional may reach BMCs in")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(default=None, description="the protocol's if left out")
    username: Name = ""
    password: Annotated[SecretStr, Field(max_length=256)] | None = Field(
        default=None, description="the one that is known if left out, for the same address"
    )
    fingerprint: Name = Field(
        default="", description="SHA-256 of its certificate (Redfish); without, the certificate must verify"
    )
    system: Name = Field(default="", description="which of its systems (Redfish), where it has several")

    def wish(self) -> NewBmc:
        return NewBmc(
            protocol=self.protocol,
            address=self.address,
            port=self.port,
            username=self.username,
            password=None if self.password is None else self.password.get_secret_value(),
            fingerprint=self.fingerprint,
            system=self.system,
        )


class PowerOrderBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    deed: PowerDeed
    within_seconds: float = Field(
        default=WITHIN.total_seconds(), ge=10, le=86400, description="not begun within this: never"
    )

    @property
    def within(self) -> timedelta:
        return timedelta(seconds=self.within_seconds)


class BmcView(BaseModel):
    protocol: BmcProtocol
    address: str
    port: int
    username: str
    fingerprint: str
    system: str
    updated_at: datetime


class PowerOrderView(BaseModel):
    id: str
    machine_id: str
    deed: PowerDeed
    state: OrderState = Field(description="uncertain: begun, and nobody knows how it ended")
    power: PowerState = Field(description="what the BMC said at its end")
    detail: str
    asked_by: str
    asked_at: datetime
    begin_by: datetime
    task_id: str = Field(description="of the installation it was for")
    ended_at: datetime | None


class PowerView(BaseModel):
    known: bool = Field(description="there is a BMC")
    state: PowerState = Field(description="as the BMC said last")
    state_at: datetime | None
    bmc: BmcView | None = Field(description="for the platform's administrators")
    order: PowerOrderView | None = Field(description="that is not over")


def power_view(power: Power) -> PowerView:
    return PowerView(
        known=power.known,
        state=PowerState.UNKNOWN if power.state is None else power.state.state,
        state_at=None if power.state is None else power.state.state_at,
        bmc=None if power.bmc is None else _bmc_view(power.bmc, power.username),
        order=None if power.order is None else order_view(power.order),
    )


def order_view(order: PowerOrder) -> PowerOrderView:
    return PowerOrderView(
        id=order.id,
        machine_id=order.machine_id,
        deed=order.deed,
        state=order.state,
        power=order.power,
        detail=order.detail,
        asked_by=order.asked_by,
        asked_at=order.asked_at,
        begin_by=order.begin_by,
        task_id=order.task_id,
        ended_at=order.ended_at,
    )


def _bmc_view(bmc: Bmc, username: str) -> BmcView:
    return BmcView(
        protocol=bmc.protocol,
        address=bmc.address,
        port=bmc.port,
        username=username,
        fingerprint=bmc.fingerprint,
        system=bmc.system,
        updated_at=bmc.updated_at,
    )
