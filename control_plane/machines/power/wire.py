"""Orders of power between our words and the protocol's; pure. What a regional says becomes bounded and printable."""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.machines.power.model import Bmc, BmcProtocol, Login, OrderState, PowerDeed, PowerOrder, PowerState
from control_plane.machines.wire import text
from proto.regional.v1 import machines_pb2 as pb

DEEDS: Mapping[PowerDeed, pb.PowerDeed.ValueType] = {
    PowerDeed.LOOK: pb.POWER_DEED_LOOK,
    PowerDeed.ON: pb.POWER_DEED_ON,
    PowerDeed.OFF: pb.POWER_DEED_OFF,
    PowerDeed.SHUTDOWN: pb.POWER_DEED_SHUTDOWN,
    PowerDeed.CYCLE: pb.POWER_DEED_CYCLE,
    PowerDeed.NETWORK: pb.POWER_DEED_NETWORK,
}
PHASES: Mapping[int, OrderState] = {
    pb.POWER_PHASE_DONE: OrderState.DONE,
    pb.POWER_PHASE_FAILED: OrderState.FAILED,
    pb.POWER_PHASE_UNCERTAIN: OrderState.UNCERTAIN,
}
_PROTOCOLS: Mapping[BmcProtocol, pb.BmcProtocol.ValueType] = {
    BmcProtocol.REDFISH: pb.BMC_PROTOCOL_REDFISH,
    BmcProtocol.IPMI: pb.BMC_PROTOCOL_IPMI,
}
_STATES: Mapping[int, PowerState] = {pb.POWER_STATE_ON: PowerState.ON, pb.POWER_STATE_OFF: PowerState.OFF}


def order(said: PowerOrder, bmc: Bmc, login: Login, *, uefi: bool, http: bool) -> pb.PowerOrder:
    return pb.PowerOrder(
        id=said.id,
        deed=DEEDS[said.deed],
        not_after_ms=int(said.begin_by.timestamp() * 1000),
        bmc=pb.Bmc(
            protocol=_PROTOCOLS[bmc.protocol],
            address=bmc.address,
            port=bmc.port,
            username=login.username,
            password=login.password,
            fingerprint=bmc.fingerprint,
            system=bmc.system,
        ),
        uefi=uefi,
        http=http,
    )


def state(said: int) -> PowerState:
    return _STATES.get(said, PowerState.UNKNOWN)


def detail(said: str) -> str:
    return text(said, 1000)
