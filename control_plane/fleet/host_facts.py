"""What a host says of itself, as it is written down and shown; pure.

Invariant: it comes from outside, so every text is cut, every list is bounded and every number fits; what is written is
no more than a few kilobytes a host.
"""

from __future__ import annotations

from typing import Any

from proto.agent.v1 import agent_pb2

_TEXT = 255
_WORD = 64
_MOST_ENGINES = 16
_MOST_DISKS = 64
_MOST_INTERFACES = 64
_MOST_ADDRESSES = 16
_MOST_FLAGS = 32
_MOST = (1 << 63) - 1


def recorded_facts(facts: agent_pb2.HostFacts) -> dict[str, Any]:
    return {
        "hostname": _text(facts.hostname),
        "architecture": _text(facts.architecture, 32),
        "operating_system": _text(facts.operating_system),
        "os_release": _text(facts.os_release),
        "kernel": _text(facts.kernel),
        "virtualisation": _text(facts.virtualisation, 32),
        "boot_id": _text(facts.boot_id, _WORD),
        "artifact": _text(facts.artifact, 160),
        "cpus": facts.cpus,
        "processor": _processor(facts.processor),
        "memory_bytes": min(facts.memory_bytes, _MOST),
        "disk_bytes": min(facts.disk_bytes, _MOST),
        "disk_free_bytes": min(facts.disk_free_bytes, _MOST),
        "disks": [
            {
                "name": _text(disk.name, _WORD),
                "model": _text(disk.model),
                "size_bytes": min(disk.size_bytes, _MOST),
                "rotational": disk.rotational,
            }
            for disk in facts.disks[:_MOST_DISKS]
        ],
        "interfaces": [
            {
                "name": _text(one.name, _WORD),
                "mac": _text(one.mac, _WORD),
                "addresses": [_text(address, _WORD) for address in one.addresses[:_MOST_ADDRESSES]],
                "speed_mbps": one.speed_mbps,
                "up": one.up,
            }
            for one in facts.interfaces[:_MOST_INTERFACES]
        ],
        "engines": [
            {
                "kind": _text(engine.kind, 32),
                "version": _text(engine.version, _WORD),
                "storage_driver": _text(engine.storage_driver, _WORD),
            }
            for engine in facts.engines[:_MOST_ENGINES]
        ],
    }


def _processor(processor: agent_pb2.Processor) -> dict[str, Any]:
    return {
        "model": _text(processor.model),
        "sockets": processor.sockets,
        "cores": processor.cores,
        "threads": processor.threads,
        "flags": [_text(flag, 32) for flag in processor.flags[:_MOST_FLAGS]],
    }


def _text(text: str, longest: int = _TEXT) -> str:
    """PostgreSQL takes no NUL, in JSON neither."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:longest]
