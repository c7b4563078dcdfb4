"""Between what a host is and longshore.agent.v1; pure."""

from __future__ import annotations

from agent.inventory_model import HostFacts
from agent.samples import Sample
from proto.agent.v1 import agent_pb2


def facts_message(facts: HostFacts) -> agent_pb2.HostFacts:
    machine, processor = facts.machine, facts.machine.processor
    return agent_pb2.HostFacts(
        hostname=facts.hostname,
        architecture=facts.architecture,
        operating_system=facts.operating_system,
        cpus=facts.cpus,
        memory_bytes=facts.memory_bytes,
        disk_bytes=facts.disk_bytes,
        disk_free_bytes=facts.disk_free_bytes,
        engines=[
            agent_pb2.Engine(kind=engine.kind, version=engine.version, storage_driver=engine.storage_driver)
            for engine in facts.engines
        ],
        artifact=facts.artifact,
        kernel=machine.kernel,
        os_release=machine.os_release,
        virtualisation=machine.virtualisation,
        boot_id=machine.boot_id,
        processor=agent_pb2.Processor(
            model=processor.model,
            sockets=processor.sockets,
            cores=processor.cores,
            threads=processor.threads,
            flags=processor.flags,
        ),
        disks=[
            agent_pb2.Disk(name=disk.name, model=disk.model, size_bytes=disk.size_bytes, rotational=disk.rotational)
            for disk in machine.disks
        ],
        interfaces=[
            agent_pb2.NetworkInterface(
                name=one.name, mac=one.mac, addresses=one.addresses, speed_mbps=one.speed_mbps, up=one.up
            )
            for one in machine.interfaces
        ],
    )


def sample_message(sample: Sample) -> agent_pb2.Sample:
    host = sample.host
    return agent_pb2.Sample(
        taken_at_ms=sample.taken_at_ms,
        busy_cpus=host.busy_cpus,
        load_1m=host.load_1m,
        memory_used_bytes=host.memory_used_bytes,
        memory_total_bytes=host.memory_total_bytes,
        disk_free_bytes=host.disk_free_bytes,
        disk_total_bytes=host.disk_total_bytes,
        disk_read_bytes_per_second=host.disk_read_bytes_per_second,
        disk_written_bytes_per_second=host.disk_written_bytes_per_second,
        received_bytes_per_second=host.received_bytes_per_second,
        sent_bytes_per_second=host.sent_bytes_per_second,
        cache_bytes=sample.cache_bytes,
        instances=[
            agent_pb2.InstanceSample(
                instance_id=one.instance_id,
                cpu_seconds=one.cpu_seconds,
                busy_cpus=one.busy_cpus,
                memory_bytes=one.memory_bytes,
                memory_limit_bytes=one.memory_limit_bytes,
                received_bytes=one.received_bytes,
                sent_bytes=one.sent_bytes,
                processes=one.processes,
            )
            for one in sample.instances
        ],
    )
