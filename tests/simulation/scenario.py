"""What a simulated rollout is made of: how large the fleet is, how much goes wrong, and what is to run."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime

from common.digest import Digest
from control_plane.instances.model import DesiredState, ImageContent, Instance, InstanceImage, InstanceSpec
from tests.simulation.tempo import LARGE, SimulatedTempo


@dataclass(frozen=True, slots=True)
class Scenario:
    """`faults_a_host`: how many befall each host on average while the rollout lasts; `whims_a_host`: how often somebody
    wants something else of one of its instances meanwhile.
    """

    seed: int
    hosts: int = 12
    faults_a_host: float = 3.0
    plane_faults: int = 3
    rollout_seconds: float = 300.0
    whims_a_host: float = 2.0
    instances_a_host: tuple[int, ...] = (1, 1, 1, 2)
    tempo: SimulatedTempo = field(default_factory=SimulatedTempo)

    @property
    def words(self) -> str:
        return f"PYTHONHASHSEED=0 .venv/bin/python -m tests.simulation.soak --only {self.seed} --hosts {self.hosts}"


def large(seed: int, hosts: int = 1000) -> Scenario:
    return Scenario(
        seed,
        hosts,
        faults_a_host=0.3,
        plane_faults=2,
        rollout_seconds=200.0,
        whims_a_host=0.2,
        instances_a_host=(1,),
        tempo=LARGE,
    )


def small(seed: int, hosts: int = 12) -> Scenario:
    """Engines, disks and links are quick or slow; it depends on the seed which steps meet which faults."""
    chance = random.Random(f"{seed} tempo")
    tempo = SimulatedTempo(
        agent_poll_seconds=chance.choice((1.0, 5.0)),
        engine_seconds=chance.choice((0.02, 0.3, 3.0)),
        fetch_seconds=chance.choice((0.5, 5.0, 30.0)),
    )
    return Scenario(seed, hosts, tempo=tempo)


def new_instance(host_id: str, name: str, wanted: InstanceImage, now: datetime, ids: random.Random) -> Instance:
    return Instance(
        id=str(uuid.UUID(int=ids.getrandbits(128))),
        tenant_id="tenant",
        tenant="acme",
        host_id=host_id,
        idc_id="idc-east",
        name=name,
        image=wanted,
        spec=InstanceSpec(),
        desired_state=DesiredState.RUNNING,
        generation=1,
        restart_nonce=0,
        created_at=now,
        updated_at=now,
    )


def image(number: int) -> InstanceImage:
    def content(what: str) -> ImageContent:
        return ImageContent(Digest.of(f"{what} {number}".encode()), 1000 + number, f"application/{what}")

    manifest, layers = content("manifest"), (content("layer"),)
    return InstanceImage(f"acme/web:{number}", "acme/web", str(number), manifest, layers)
