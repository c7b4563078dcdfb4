"""What the centre is told of machines, in its words."""

from __future__ import annotations

from collections.abc import Callable

from proto.regional.v1 import machines_pb2 as pb
from regional.machines.model import Event, Phase, PhaseSaid, Said, Sighting, StepPhase
from regional.machines.power_words import STATES
from regional.machines.store import Report
from regional.power import PowerState

_PHASES = {
    Phase.BOOTING: pb.INSTALL_PHASE_BOOTING,
    Phase.INSTALLING: pb.INSTALL_PHASE_INSTALLING,
    Phase.COMPLETED: pb.INSTALL_PHASE_COMPLETED,
    Phase.FAILED: pb.INSTALL_PHASE_FAILED,
    Phase.STOPPED: pb.INSTALL_PHASE_STOPPED,
}
_STEPS = {
    StepPhase.STARTED: pb.OPERATION_PHASE_STARTED,
    StepPhase.PROGRESS: pb.OPERATION_PHASE_PROGRESS,
    StepPhase.LOG: pb.OPERATION_PHASE_LOG,
    StepPhase.COMPLETE: pb.OPERATION_PHASE_COMPLETE,
    StepPhase.FAILED: pb.OPERATION_PHASE_FAILED,
}


class Writer:
    """`ids` makes the ids by which the centre counts each report once."""

    def __init__(self, ids: Callable[[], str]) -> None:
        self._ids = ids

    def said(self, machine_id: str, intent_id: str, said: Said, now: float) -> Report:
        if isinstance(said, PhaseSaid):
            install = pb.InstallReport(intent_id=intent_id, phase=_PHASES[said.phase], detail=said.detail)
            return self._report(pb.MachineReport(install=install), machine_id, now)
        step = pb.OperationReport(
            intent_id=intent_id,
            operation_id=said.operation_id,
            phase=_STEPS[said.phase],
            percent=said.percent,
            text=said.text,
        )
        stream = f"{intent_id}/{said.operation_id}" if said.phase is StepPhase.PROGRESS and not said.text else ""
        return self._report(pb.MachineReport(operation=step), machine_id, now, stream)

    def sighting(self, machine_id: str, seen: Sighting, now: float) -> Report:
        body = pb.Sighting(
            mac=seen.mac,
            serial=seen.serial,
            uuid=seen.uuid,
            address=seen.address,
            architecture=seen.architecture,
            vendor_class=seen.vendor_class,
            by=seen.by,
        )
        return self._report(pb.MachineReport(sighting=body), machine_id, now, f"sighting/{seen.mac}")

    def inventory(self, machine_id: str, inventory: pb.Inventory, mac: str, now: float) -> Report:
        report = pb.MachineReport(inventory=inventory)
        return self._report(report, machine_id, now, f"inventory/{machine_id or mac}")

    def power(
        self, machine_id: str, order_id: str, phase: pb.PowerPhase.ValueType, state: PowerState, detail: str, now: float
    ) -> Report:
        body = pb.PowerReport(order_id=order_id, phase=phase, state=STATES[state], detail=detail[:1000])
        stream = f"power/{order_id}" if phase == pb.POWER_PHASE_STARTED else ""
        return self._report(pb.MachineReport(power=body), machine_id, now, stream)

    def event(self, machine_id: str, mac: str, event: Event) -> Report:
        body = pb.BootEvent(mac=mac, stage=event.stage, detail=event.detail, trouble=event.trouble)
        report = self._report(pb.MachineReport(event=body), machine_id, event.at)
        # A stream of its own: never replaced, and the first to leave when the centre is away for too long.
        return Report(report.id, report.body, report.id)

    def _report(self, report: pb.MachineReport, machine_id: str, at: float, stream: str = "") -> Report:
        report.id, report.machine_id, report.occurred_ms = self._ids(), machine_id, int(at * 1000)
        return Report(report.id, report.SerializeToString(), stream)
