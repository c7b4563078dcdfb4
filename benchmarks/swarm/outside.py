"""The sides from Debian: aria2 and transmission (BitTorrent v1), nginx with curl.

Each with its own defaults, but for what would not be fair: no local discovery that their peers lack, no wait before
seeding ends, no preallocation in memory. They say themselves when they are done (a hook); the digest is checked after
the clock has stopped, which for ours is part of the time.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.swarm.contender import Arena, Contender, Processes
from common.bittorrent import bencode
from common.errors import Failure

_TRACKER_PORT = 8998
_HTTP_PORT = 8080
_PEER_PORT = 6881
_PIECE = 1 << 20
# The seed hashes its file before it gives anything; 256 MiB take aria2 about a second.
_SEED_SECONDS = 5.0


class Outside(Contender):
    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self._processes = Processes(arena.folder)

    def holds(self, number: int) -> bool:
        return (self.arena.folder / f"done{number}").exists()

    def copy(self, number: int) -> Path:
        return self._folder(number) / "blob"

    def kill(self, number: int) -> None:
        self._processes.kill(f"peer{number}")

    def sessions(self) -> set[int]:
        return self._processes.sessions()

    def close(self) -> None:
        self._processes.close()

    def _folder(self, number: int) -> Path:
        folder = self.arena.folder / f"host{number}"
        folder.mkdir(exist_ok=True)
        return folder

    def _hook(self, number: int) -> Path:
        """A script that says that this host is done."""
        script = self.arena.folder / f"hook{number}.sh"
        script.write_text(f"#!/bin/sh\n: > {self.arena.folder}/done{number}\n")
        script.chmod(0o755)
        return script


class Http(Outside):
    name = "nginx and curl"

    def prepare(self) -> None:
        folder, source = self.arena.folder, self.arena.network.source
        configuration = folder / "nginx.conf"
        configuration.write_text(
            f"user root; worker_processes 1; daemon off; error_log {folder}/nginx.log; pid {folder}/nginx.pid;"
            "events { worker_connections 256; }"
            f"http {{ sendfile on; access_log off; server {{ listen {source.address}:{_HTTP_PORT};"
            f" root {self.arena.blob_path.parent}; }} }}"
        )
        self._processes.spawn(source.prefix, "nginx", ["nginx", "-c", str(configuration)])
        _wait_listening(self.arena, _HTTP_PORT)

    def go(self) -> None:
        url = f"http://{self.arena.network.source.address}:{_HTTP_PORT}/blob"
        for number in self.arena.network.numbers():
            script = f"curl -sf -o {self.copy(number)} {url} && {self._hook(number)}"
            self._processes.spawn(self.arena.network.host(number).prefix, f"peer{number}", ["sh", "-c", script])


class Torrent(Outside):
    def prepare(self) -> None:
        folder, source = self.arena.folder, self.arena.network.source
        announce = f"http://{source.address}:{_TRACKER_PORT}/announce"
        self._torrent = folder / "blob.torrent"
        self._torrent.write_bytes(first_version_torrent(self.arena.blob_path, announce))
        command = [sys.executable, "-m", "benchmarks.swarm.tracker", source.address, str(_TRACKER_PORT)]
        self._processes.spawn(source.prefix, "tracker", ["env", f"--chdir={_repository()}", *command])
        _wait_listening(self.arena, _TRACKER_PORT)
        self._folder(0)
        self.copy(0).hardlink_to(self.arena.blob_path)
        self._processes.spawn(source.prefix, "seed", self._command(0))
        time.sleep(_SEED_SECONDS)

    def go(self) -> None:
        for number in self.arena.network.numbers():
            self._processes.spawn(self.arena.network.host(number).prefix, f"peer{number}", self._command(number))

    def _command(self, number: int) -> list[str]:
        """Number 0 is the seed."""
        raise NotImplementedError


class Aria2(Torrent):
    name = "aria2"

    def _command(self, number: int) -> list[str]:
        alone = ["--enable-dht=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false"]
        stay = ["--seed-ratio=0", "--seed-time=1000", "--summary-interval=0", "--allow-overwrite=true"]
        disk = ["--file-allocation=none", "--disk-cache=64M", "-d", str(self._folder(number))]
        end = [f"--on-bt-download-complete={self._hook(number)}"] if number else ["--check-integrity=true"]
        return ["aria2c", *alone, *stay, *disk, f"--listen-port={_PEER_PORT}", *end, str(self._torrent)]


class Transmission(Torrent):
    name = "transmission"

    def _command(self, number: int) -> list[str]:
        config = self.arena.folder / f"config{number}"
        config.mkdir()
        alone = {"dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "port-forwarding-enabled": False}
        # uTP off: its delay control yields to the emulated links' queues and halves the rate (measured in a pilot).
        rest = {"utp-enabled": False, "ratio-limit-enabled": False, "preallocation": 0, "peer-port": _PEER_PORT}
        (config / "settings.json").write_text(json.dumps({**alone, **rest}))
        hook = ["-f", str(self._hook(number))] if number else []
        places = ["-g", str(config), "-w", str(self._folder(number)), "-p", str(_PEER_PORT), "-M"]
        return ["transmission-cli", *places, *hook, str(self._torrent)]


def first_version_torrent(path: Path, announce: str) -> bytes:
    """BEP 3, private: neither aria2 nor this transmission reads the second version."""
    hashes = bytearray()
    with path.open("rb") as file:
        while chunk := file.read(_PIECE):
            hashes += hashlib.sha1(chunk).digest()
    info: dict[bytes, bytes | int] = {
        b"length": path.stat().st_size,
        b"name": b"blob",
        b"piece length": _PIECE,
        b"pieces": bytes(hashes),
        b"private": 1,
    }
    return bencode.encode({b"announce": announce.encode(), b"info": info})


def _repository() -> Path:
    return Path(__file__).parents[2]


def _wait_listening(arena: Arena, port: int, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((arena.network.source.address, port), 1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise Failure(f"nothing listens on port {port} after {seconds:.0f} s: see {arena.folder}") from None
            time.sleep(0.05)


def missing_programs() -> list[str]:
    wanted = ("ip", "tc", "nsenter", "setpriv", "nginx", "curl", "aria2c", "transmission-cli")
    return [name for name in wanted if subprocess.run(["which", name], capture_output=True, check=False).returncode]
