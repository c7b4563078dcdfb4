"""A whole Longshore on one computer: a control plane, regionals and agents, joined through the public API.

Each node has an address and a command prefix, so that the same code runs everything on loopback (demo, tests) or in
network namespaces with shaped links (benchmarks). Invariant: `close` stops every process, whatever failed before.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from common.durable import write_file
from common.errors import Failure
from control_plane.cli.client import Client
from control_plane.cli.settings import Credentials
from deploy.demo.services import Service, ServiceFailed

_PASSWORD = re.compile(r"admin password: (\S+)")


@dataclass(frozen=True)
class Node:
    """A place where a service runs. `prefix` enters it; `arguments` are given to the service there alone."""

    name: str
    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Idc:
    name: str
    regional: Node
    hosts: tuple[Node, ...]


class Fleet:
    def __init__(
        self,
        root: Path,
        centre: Node,
        idcs: Sequence[Idc],
        *,
        runtime: str = "auto",
        docker_host: str | None = None,
        docker_network: str | None = None,
        lxd_socket: str | None = None,
        server_arguments: Sequence[str] = (),
        server_environment: Mapping[str, str] = MappingProxyType({}),
        edge_arguments: Sequence[str] = (),
        edge_environment: Mapping[str, str] = MappingProxyType({}),
        http_port: int = 0,
    ) -> None:
        """`edge_arguments` and `edge_environment` are given to every regional and agent."""
        self.root = root
        self.idcs = tuple(idcs)
        self._runtime = [f"--runtime={runtime}"]
        self._runtime += [f"--docker-host={docker_host}"] if docker_host else []
        self._runtime += [f"--docker-network={docker_network}"] if docker_network else []
        self._runtime += [f"--lxd-socket={lxd_socket}"] if lxd_socket else []
        self._edge_arguments = tuple(edge_arguments)
        self._edge_environment = edge_environment
        self.password = ""
        self.services: dict[str, Service] = {}
        self.control_plane = self._add(
            "control-plane",
            "control_plane",
            centre,
            [
                "serve",
                *(f"--http={centre.address}:{http_port}", f"--enrolment={centre.address}:0"),
                *(f"--attach={centre.address}:0", *server_arguments),
            ],
        )
        self.control_plane.environment = server_environment
        self._centre = centre
        self.url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start and join everything; afterwards every host and regional is online."""
        self.start_control_plane()
        self.log_in()
        self.client.post("/api/v1/tenants", {"name": "acme", "display_name": "Acme"})
        for idc in self.idcs:
            self.client.post("/api/v1/idcs", {"name": idc.name, "display_name": idc.name})
        for idc in self.idcs:
            self.join_regional(idc)
            for host in idc.hosts:
                self.join_host(idc, host)
        with ThreadPoolExecutor(8) as pool:  # every service waits for its own network; together they start in seconds
            list(pool.map(Service.wait_ready, [s for s in self.services.values() if s is not self.control_plane]))
        self._wait_online()

    def start_control_plane(self) -> None:
        ready = self.control_plane.start()
        self.url = f"http://{ready['http']}"
        # A restart must come back where everybody knows it.
        chosen = {f"--{option}": f"--{option}={ready[option]}" for option in ("http", "enrolment", "attach")}
        self.control_plane.arguments = [
            chosen.get(word.partition("=")[0], word) for word in self.control_plane.arguments
        ]

    def log_in(self) -> None:
        if not self.password:
            self.password = self._printed_password()
        self.client = Client(self.url, None, Credentials(self.root / "credentials.json"))
        self.client.login("admin", self.password)

    def _printed_password(self, seconds: float = 5) -> str:
        deadline = time.monotonic() + seconds  # it may be printed a moment after the service says that it is ready
        while (found := _PASSWORD.search(self.control_plane.log_path.read_text(errors="replace"))) is None:
            if time.monotonic() > deadline:
                raise ServiceFailed("the control plane printed no admin password", action="remove the data directory")
            time.sleep(0.02)
        return found[1]

    def join_regional(self, idc: Idc) -> Service:
        node = idc.regional
        token = self._join_token("regional", idc.name, node.name)
        service = self._add(
            node.name,
            "regional",
            node,
            [
                "run",
                *(f"--idc={idc.name}", f"--server={self.url}", f"--server-ip={node.address}", "--api-port=0"),
                *(f"--name={node.name}", f"--static-root={self.root / node.name / 'tftpboot'}"),
                *(f"--join-token-file={token}", *self._edge_arguments, *node.arguments),
            ],
        )
        service.launch()
        return service

    def join_host(self, idc: Idc, node: Node, server: str | None = None) -> Service:
        """`server`: URL of another replica than the one that we started."""
        token = self._join_token("host", idc.name, node.name)
        service = self._add(
            node.name,
            "agent",
            node,
            [
                "run",
                *(f"--server={server or self.url}", f"--name={node.name}", f"--listen-host={node.address}"),
                *(f"--join-token-file={token}", *self._runtime, *self._edge_arguments, *node.arguments),
            ],
        )
        service.launch()
        return service

    def instances(self) -> list[dict[str, Any]]:
        return self.client.every("/api/v1/instances")

    def egress(self) -> dict[str, int]:
        """Payload bytes of content that left the centre, by IDC."""
        total: dict[str, int] = {}
        for row in self.client.every("/api/v1/swarm/egress"):
            total[row["idc"]] = total.get(row["idc"], 0) + int(row["bytes"])
        return total

    def close(self) -> None:
        """The edge first: a service that loses the control plane while it stops would try to find it again."""
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(Service.stop, [one for one in self.services.values() if one is not self.control_plane]))
        finally:
            self.control_plane.stop()

    def _join_token(self, kind: str, idc: str, name: str) -> Path:
        # In a file: arguments can be read by everybody on the machine.
        made = self.client.post("/api/v1/join-tokens", {"kind": kind, "idc": idc, "name": name})["data"]
        path = self.root / f"{name}.join-token"
        write_file(path, str(made["token"]).encode(), 0o600)
        return path

    def _wait_online(self, seconds: float = 60) -> None:
        wanted = sum(len(idc.hosts) for idc in self.idcs)
        deadline = time.monotonic() + seconds
        while True:
            hosts = [row for row in self.client.every("/api/v1/hosts") if row["state"] == "online"]
            regionals = [row for row in self.client.every("/api/v1/regionals") if row["state"] == "online"]
            if len(hosts) == wanted and len(regionals) == len(self.idcs):
                return
            if time.monotonic() > deadline:
                raise Failure(
                    f"{len(hosts)} of {wanted} hosts and {len(regionals)} of {len(self.idcs)} regionals came online",
                    action=f"see the logs in {self.root}",
                )
            time.sleep(0.1)

    def _add(self, name: str, module: str, node: Node, arguments: list[str]) -> Service:
        data = self.root / name
        service = Service(name, module, [*arguments, f"--data={data}"], data, node.prefix, self._edge_environment)
        self.services[name] = service
        return service
