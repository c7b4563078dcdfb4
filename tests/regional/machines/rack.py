"""A rack's ledger and doorway on a real file, and words to make targets with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from common.digest import Digest
from proto.content.v1 import content_pb2
from proto.regional.v1 import machines_pb2 as pb
from regional.machines.doorway import Doorway, Rules
from regional.machines.ledger import Ledger
from regional.machines.reports import Writer
from regional.machines.store import Store

MAC = "52:54:00:12:34:56"
IMAGE = Digest.of(b"image")
KERNEL = Digest.of(b"kernel")
NOW = 1_800_000_000.0


def content(digest: Digest, size: int = 5) -> content_pb2.Content:
    return content_pb2.Content(digest=str(digest), size_bytes=size, token="t")


def image_operations() -> list[pb.Operation]:
    return [
        pb.Operation(id="wipe", disk_wipe=pb.DiskWipe(whole=True)),
        pb.Operation(id="write", image_install=pb.ImageInstall(content=content(IMAGE), format="raw")),
        pb.Operation(id="done", complete=pb.Complete()),
        pb.Operation(id="restart", reboot=pb.Reboot()),
    ]


def raid_operations() -> list[pb.Operation]:
    """A reboot in the middle, as RAID controllers ask for."""
    script = pb.Script(name="raid", content=b"true")
    return [
        pb.Operation(id="raid", hardware_config=script),
        pb.Operation(id="again", reboot=pb.Reboot()),
        *image_operations(),
    ]


def distribution() -> pb.BootFiles:
    kernel = pb.BootFile(content=content(KERNEL))
    return pb.BootFiles(kernel=kernel, initrds=[pb.BootFile(path="initramfs/i.gz")], arguments="auto=true")


def image_intent(intent_id: str = "i1") -> pb.InstallIntent:
    return pb.InstallIntent(id=intent_id, tenant_id="acme", operations=image_operations())


def distribution_intent(intent_id: str = "i1") -> pb.InstallIntent:
    return pb.InstallIntent(
        id=intent_id,
        tenant_id="acme",
        boot=distribution(),
        operations=[pb.Operation(id="done", complete=pb.Complete())],
        documents=[pb.Document(name="ks.cfg", media_type="text/plain", content=b"text\n", secret=True)],
    )


def target(
    intent: pb.InstallIntent | None = None, *, machine: str = "m1", mac: str = MAC, serial: str = ""
) -> pb.BootTarget:
    return pb.BootTarget(machine_id=machine, macs=[mac], serial=serial, intent=intent)


class Rack:
    """`kill` is kill -9: what is in memory is gone, what is on the disk is not."""

    def __init__(self, directory: Path, *, at_once: int = 0, discover: bool = False) -> None:
        self.path = directory / "machines.db"
        self.rules = Rules(discover, at_once)
        self.missing: set[Digest] = set()
        self._numbers = itertools.count(1)
        self._start()

    def _start(self) -> None:
        self.store = Store(self.path)
        self.ledger = Ledger(self.store, Writer(self._next("report")))
        self.doorway = Doorway(self.ledger, self.rules, self._next("token"), lambda digest: digest not in self.missing)
        self.ledger.open(NOW)
        assert self.store._database is not None
        # What a killed process wrote is there without fsync too.
        self.store._database.execute("PRAGMA synchronous = OFF")

    def kill(self) -> None:
        self.store.close()
        self._start()

    def _next(self, name: str) -> Callable[[], str]:
        return lambda: f"{name}-{next(self._numbers):032d}"

    def reports(self) -> list[pb.MachineReport]:
        return [pb.MachineReport.FromString(body) for _, body in self.store.unsent(10_000, 1 << 30)]

    def phases(self) -> list[str]:
        """Of installations, in the order in which they were said."""
        said = [each.install.phase for each in self.reports() if each.HasField("install")]
        return [pb.InstallPhase.Name(phase).removeprefix("INSTALL_PHASE_").lower() for phase in said]
