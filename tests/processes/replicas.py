"""Control planes that share one database, Redis, etcd, key file and blob directory; and an independent look at etcd."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane.cli.client import Client
from control_plane.cli.settings import Credentials
from deploy.demo.fleet import Fleet
from deploy.demo.services import Service
from tests.engines.etcd import EtcdEngine
from tests.engines.postgresql import PostgresEngine
from tests.engines.redis import RedisEngine


@dataclass(frozen=True)
class Engines:
    postgresql: PostgresEngine
    redis: RedisEngine
    etcd: EtcdEngine

    def environment(self, database: str, shared: Path) -> Mapping[str, str]:
        """What every process of one installation is given."""
        return {
            "LONGSHORE_DATABASE__URL": self.postgresql.url(database),
            "LONGSHORE_REDIS__URL": self.redis.url,
            "LONGSHORE_ETCD__ENDPOINTS": json.dumps(self.etcd.endpoints),
            "LONGSHORE_SECRETS_DIRECTORY": str(shared / "secrets"),
            "LONGSHORE_BLOBS__DIRECTORY": str(shared / "blobs"),
        }


@dataclass(frozen=True)
class Replica:
    """Another control plane of the fleet's installation. It ends with the fleet."""

    service: Service
    url: str
    client: Client


def start_replica(fleet: Fleet, name: str = "replica") -> Replica:
    data = fleet.root / name
    listeners = ("--http=127.0.0.1:0", "--enrolment=127.0.0.1:0", "--attach=127.0.0.1:0")
    arguments = ["serve", *listeners, f"--data={data}"]
    service = Service(name, "control_plane", arguments, data, environment=fleet.control_plane.environment)
    fleet.services[name] = service
    url = f"http://{service.start()['http']}"
    client = Client(url, None, Credentials(fleet.root / f"{name}-credentials.json"))
    client.login("admin", fleet.password)
    return Replica(service, url, client)


def worker_of(fleet: Fleet) -> Service:
    """`longshore-server worker` beside the fleet's server, not started. It ends with the fleet."""
    data = fleet.root / "worker"
    arguments = ["worker", f"--data={data}"]
    worker = Service("worker", "control_plane", arguments, data, environment=fleet.control_plane.environment)
    fleet.services["worker"] = worker
    return worker


def readiness(fleet: Fleet) -> tuple[int, dict[str, str]]:
    """Status of /readyz, and what each check says."""
    status, document = _ask(fleet.url.removeprefix("http://"), "GET", "/readyz")
    return status, dict(document["checks"])


@dataclass(frozen=True)
class Entry:
    value: bytes
    lease: int


def directory_of(etcd: EtcdEngine) -> dict[str, Entry]:
    """Everything below /os/, through etcd's own HTTP gateway."""
    ask = {"key": _encoded("/os/"), "range_end": _encoded("/os0")}  # "0" comes after "/"
    _, document = _ask(etcd.endpoints[0], "POST", "/v3/kv/range", ask)
    return {
        base64.b64decode(pair["key"]).decode(): Entry(base64.b64decode(pair["value"]), int(pair.get("lease", 0)))
        for pair in document.get("kvs", [])
    }


def lease_seconds(etcd: EtcdEngine, lease: int) -> int:
    """The time to live that was granted; 0 or less: there is no such lease."""
    _, document = _ask(etcd.endpoints[0], "POST", "/v3/lease/timetolive", {"ID": lease})
    return int(document.get("grantedTTL", 0))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _ask(address: str, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(address, timeout=15)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        document: dict[str, Any] = json.loads(answer.read())
        return answer.status, document
    finally:
        connection.close()
