"""Hosts that are in the database and have certificates before the control plane starts.

They are not enrolled one by one: 10,000 join tokens, requests and commits would take minutes and measure something
else. The certificates are signed by the installation's own authority, with the control plane's own code, and recorded
where enrolment records them, so that admission finds what it would find.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert

from common.clock import SystemClock
from common.identifiers import new_id
from common.tls import Name, private_key_pem
from control_plane.database import Database
from control_plane.fleet.authority import open_authority
from control_plane.fleet.service import FleetOptions
from control_plane.fleet.tables import certificates, hosts, idcs
from control_plane.migrations.migrate import upgrade
from control_plane.sealing import SealedBox
from control_plane.sealing.keyring import KeyRing
from control_plane.settings import Settings
from proto.agent.v1 import agent_pb2

IDC = "bench"
CA_FILE = "ca.pem"
_ROWS_AT_ONCE = 500


def identity_file(folder: Path, number: int) -> Path:
    """Key and certificate of one agent."""
    return folder / f"{number}.pem"


def facts_message() -> agent_pb2.HostFacts:
    """What every simulated agent says of its host."""
    return agent_pb2.HostFacts(
        hostname="simulated",
        architecture="amd64",
        operating_system="linux",
        cpus=8,
        memory_bytes=32 << 30,
        disk_free_bytes=200 << 30,
        engines=[agent_pb2.Engine(kind="docker", version="24.0.7")],
    )


async def populate(settings: Settings, identities: Path, count: int) -> None:
    """`count` hosts of one IDC; their keys and certificates into the folder `identities`."""
    clock = SystemClock()
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    await upgrade(settings.database_url)
    database = Database(settings.database_url, clock)
    try:
        box = SealedBox(KeyRing.load_or_create(settings.key_directory))
        authority = await open_authority(database, box, clock, FleetOptions().certificate_life)
        (identities / CA_FILE).write_bytes(authority.ca_pem)
        idc_id, now = new_id(clock), clock.now()
        rows: list[dict[str, object]] = []
        issued_rows: list[dict[str, object]] = []
        for number in range(count):
            key, host_id = ec.generate_private_key(ec.SECP256R1()), new_id(clock)
            issued = authority.issue(Name(IDC, "host", host_id), key.public_key())
            identity_file(identities, number).write_bytes(private_key_pem(key) + issued.pem)
            rows.append({"id": host_id, "idc_id": idc_id, "name": f"host-{number}", "created_at": now})
            issued_rows.append(
                {
                    "serial": issued.serial,
                    "kind": "host",
                    "identity_id": host_id,
                    "key_hash": issued.key_hash,
                    "issued_at": issued.issued_at,
                    "expires_at": issued.expires_at,
                }
            )
        async with database.transaction() as unit:
            await unit.connection.execute(
                insert(idcs).values(id=idc_id, name=IDC, display_name="Bench", created_at=now)
            )
            for start in range(0, count, _ROWS_AT_ONCE):
                await unit.connection.execute(insert(hosts), rows[start : start + _ROWS_AT_ONCE])
                await unit.connection.execute(insert(certificates), issued_rows[start : start + _ROWS_AT_ONCE])
    finally:
        await database.close()
