"""A throwaway Ceph with its S3 gateway: one monitor, one OSD in memory, one radosgw; about 1.5 s from nothing to ready.

What makes it quick are the two `paxos` lines and pools of one placement group (13 s with Ceph's defaults). The OSD
keeps its data in memory and writes it down when it is asked to end, so that a restart is not a loss and kill -9 is.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import subprocess
import sysconfig
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config
from types_boto3_s3 import S3Client

from tests.engines import EngineCannotRun
from tests.engines.listeners import free_port, owns_port
from tests.engines.processes import SEARCH_PATH, Process, find_program
from tests.engines.scratch import scratch_directory

_GROUP = "ceph"
_READY_SECONDS = 60
_COMMAND_SECONDS = 60

_CONFIGURATION = """
[global]
fsid = {cluster}
mon_host = v2:127.0.0.1:{monitor},v1:127.0.0.1:{old_monitor}
mon_initial_members = a
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
ms_bind_ipv6 = false
auth_allow_insecure_global_id_reclaim = false
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 500
run_dir = {directory}
admin_socket = {directory}/$name.asok
pid_file = {directory}/$name.pid
log_file = {directory}/$name.log
crash_dir = {directory}/crash
keyring = {directory}/keyring
erasure_code_dir = /usr/lib/{machine}/ceph/erasure-code
plugin_dir = /usr/lib/{machine}/ceph
[mon]
mon_data = {directory}/mon
# Only of what the machine's disk is concerned, which is not ours.
mon_data_avail_crit = 1
mon_cluster_log_file = {directory}/cluster.log
[osd]
osd_data = {directory}/osd
# The fast way out would forget what is in memory.
osd_fast_shutdown = false
osd_objectstore = memstore
memstore_device_bytes = 6442450944
# A gateway that was killed is waited for so long by the next write of a bucket (30 by default).
osd_client_watch_timeout = 3
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_data = {directory}/rgw
rgw_enable_usage_log = false
rgw_enable_quota_threads = false
rgw_thread_pool_size = 64
debug_rgw = 1
"""


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """What a client needs to reach one bucket."""

    endpoint: str
    access_key_id: str
    secret_key: str
    name: str

    def client(self) -> S3Client:
        """For looking and for doing harm; what is tested has clients of its own."""
        return _session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )


class CephEngine:
    """A running cluster and gateway; one user whose keys are in `bucket`."""

    def __init__(self, directory: Path) -> None:
        for program in ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph-authtool", "monmaptool"):
            find_program(program, _GROUP)
        self._directory = directory
        self.port = free_port()
        self._monitor_ports = (free_port(), free_port())
        self._running: list[Process] = []
        self._keys = (secrets.token_hex(10).upper(), secrets.token_hex(20))
        try:
            self._start_monitor()
            self._make_osd()
            self.osd = self.start_osd()
            self._authorise("client.rgw.a", directory / "rgw", mon="allow rw", osd="allow rwx")
            self.gateway = self.start_gateway()
            self._make_user()
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_bucket(self) -> S3Bucket:
        bucket = S3Bucket(self.endpoint, *self._keys, f"tests-{secrets.token_hex(8)}")
        bucket.client().create_bucket(Bucket=bucket.name)
        return bucket

    def limit(self, size_bytes: int) -> None:
        """How much all buckets together may hold; -1: as much as there is room for."""
        self._run("radosgw-admin", "quota", "set", "--quota-scope=user", "--uid=tests", f"--max-size={size_bytes}")
        self._run("radosgw-admin", "quota", "enable", "--quota-scope=user", "--uid=tests")

    def start_gateway(self) -> Process:
        """At the start, and again after it was stopped or killed; returns when it answers."""
        self.gateway = self._launch(
            "radosgw", "-n", "client.rgw.a", "-f", "--keyring", f"{self._directory}/rgw/keyring"
        )
        self.gateway.wait_ready(self._answers, _READY_SECONDS)
        if not owns_port(self.gateway.pid, self.port):
            raise EngineCannotRun(f"our radosgw does not own port {self.port}")
        return self.gateway

    def start_osd(self) -> Process:
        """At the start, and again after it was stopped; returns when the cluster counts on it."""
        before = self._osd_state()
        self.osd = self._launch("ceph-osd", "-i", "0", "-f", "--keyring", f"{self._directory}/osd/keyring")
        # The monitor calls an OSD that ended "up" for a while: its state must have changed.
        self.osd.wait_ready(
            lambda: self._osd_state() != before and " up " in self._osd_state(), _READY_SECONDS, poll_seconds=0.2
        )
        return self.osd

    def stop(self) -> None:
        # The gateway would wait for the OSD, the OSD for the monitor; nothing is kept anyway.
        for process in reversed(self._running):
            process.kill()

    def _start_monitor(self) -> None:
        machine = sysconfig.get_config_var("MULTIARCH") or "x86_64-linux-gnu"
        cluster, keyring = str(uuid.uuid4()), str(self._directory / "keyring")
        monitor, old_monitor = self._monitor_ports
        for name in ("mon", "osd", "rgw", "crash"):
            (self._directory / name).mkdir()
        (self._directory / "ceph.conf").write_text(
            _CONFIGURATION.format(
                cluster=cluster,
                monitor=monitor,
                old_monitor=old_monitor,
                port=self.port,
                directory=self._directory,
                machine=machine,
            )
        )
        everything = [word for part in ("mon", "osd", "mgr", "mds") for word in ("--cap", part, "allow *")]
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
        addresses = f"[v2:127.0.0.1:{monitor},v1:127.0.0.1:{old_monitor}]"
        monmap = str(self._directory / "monmap")
        self._run("monmaptool", "--create", "--clobber", "--addv", "a", addresses, "--fsid", cluster, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        process = self._launch("ceph-mon", "-i", "a", "-f")
        process.wait_ready(lambda: owns_port(process.pid, monitor), _READY_SECONDS)

    def _make_osd(self) -> None:
        key = self._run("ceph-authtool", "--gen-print-key").strip()
        name, keyring = str(uuid.uuid4()), str(self._directory / "osd" / "keyring")
        self._run("ceph", "osd", "new", name, "-i", "-", given=json.dumps({"cephx_secret": key}))
        self._run("ceph-authtool", "--create-keyring", keyring, "--name", "osd.0", "--add-key", key)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", name, "--keyring", keyring)

    def _authorise(self, name: str, directory: Path, **capabilities: str) -> None:
        rights = [word for pair in capabilities.items() for word in pair]
        self._run("ceph", "auth", "get-or-create", name, *rights, "-o", str(directory / "keyring"))

    def _make_user(self) -> None:
        access, secret = self._keys
        keys = [f"--access-key={access}", f"--secret-key={secret}"]
        self._run(
            "radosgw-admin", "user", "create", "--uid=tests", "--display-name=tests", *keys, "--max-buckets=10000"
        )

    def _osd_state(self) -> str:
        lines = self._run("ceph", "osd", "dump").splitlines()
        return next((line for line in lines if line.startswith("osd.0 ")), "")

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.endpoint, timeout=1):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def _launch(self, program: str, *arguments: str) -> Process:
        command = [find_program(program, _GROUP), "--conf", f"{self._directory}/ceph.conf", *arguments]
        process = Process(command, self._directory / f"{program}.out")
        self._running.append(process)
        return process

    def _run(self, program: str, *arguments: str, given: str = "") -> str:
        """Raises `EngineCannotRun` with what it said."""
        configuration = ["--conf", f"{self._directory}/ceph.conf"] if program.startswith(("ceph", "rados")) else []
        configuration = [] if program == "ceph-authtool" else configuration
        try:
            done = subprocess.run(
                [find_program(program, _GROUP), *configuration, *arguments],
                input=given,
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMMAND_SECONDS,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"},
            )
        except subprocess.TimeoutExpired:
            raise EngineCannotRun(f"{program} {arguments[0]} has not ended after {_COMMAND_SECONDS} s") from None
        if done.returncode:
            raise EngineCannotRun(f"{program} {' '.join(arguments[:3])}: {done.stderr.strip()[-400:]}")
        return done.stdout


@functools.cache
def _session() -> boto3.session.Session:
    return boto3.session.Session()


@contextlib.contextmanager
def ceph_engine() -> Iterator[CephEngine]:
    with scratch_directory("ceph", in_memory=True) as directory:
        engine = CephEngine(directory)
        try:
            yield engine
        finally:
            engine.stop()
