"""Orders of power between the protocol's words and the port's; pure but for the protocol."""

from __future__ import annotations

from collections.abc import Mapping

from proto.regional.v1 import machines_pb2 as pb
from regional.power import Bmc, PowerState, Protocols
from regional.power.deeds import Deed

_DEEDS: Mapping[int, Deed] = {
    pb.POWER_DEED_LOOK: Deed.LOOK,
    pb.POWER_DEED_ON: Deed.ON,
    pb.POWER_DEED_OFF: Deed.OFF,
    pb.POWER_DEED_SHUTDOWN: Deed.SHUTDOWN,
    pb.POWER_DEED_CYCLE: Deed.CYCLE,
    pb.POWER_DEED_NETWORK: Deed.NETWORK,
}
STATES: Mapping[PowerState, pb.PowerState.ValueType] = {
    PowerState.ON: pb.POWER_STATE_ON,
    PowerState.OFF: pb.POWER_STATE_OFF,
    PowerState.UNKNOWN: pb.POWER_STATE_UNSPECIFIED,
}


def deed_of(said: int) -> Deed | None:
    """None: a newer control plane's."""
    return _DEEDS.get(said)


def bmc_of(said: pb.Bmc) -> Bmc:
    protocol = Protocols.IPMI if said.protocol == pb.BMC_PROTOCOL_IPMI else Protocols.REDFISH
    port = said.port or (623 if protocol is Protocols.IPMI else 443)
    return Bmc(protocol, said.address, port, said.username, said.password, said.fingerprint, said.system)
