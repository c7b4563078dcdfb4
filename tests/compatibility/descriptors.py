"""Messages of other versions of the protocol, made at run time: of the previous one, as `make descriptor` wrote it down
at the last release, and of one to come, which is today's with words added.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from proto.agent.v1 import agent_pb2, channels_pb2, commands_pb2, moves_pb2
from proto.content.v1 import content_pb2
from proto.edge.v1 import edge_pb2
from proto.enrolment.v1 import enrolment_pb2
from proto.regional.v1 import machines_pb2, regional_pb2

PREVIOUS = Path(__file__).with_name("previous.binpb")
ATTACH = "/longshore.agent.v1.Agent/Attach"
UNKNOWN = 900
_TODAY = (
    content_pb2,
    edge_pb2,
    enrolment_pb2,
    machines_pb2,
    regional_pb2,
    channels_pb2,
    commands_pb2,
    moves_pb2,
    agent_pb2,
)


class Protocol:
    """The agents' messages of one version."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        pool = DescriptorPool()
        for file in files:
            pool.Add(file)  # type: ignore[no-untyped-call]
        self._pool = pool

    def message(self, name: str) -> Any:
        """The class of `longshore.agent.v1.<name>`."""
        return GetMessageClass(self._pool.FindMessageTypeByName(f"longshore.agent.v1.{name}"))

    def attach(self, channel: grpc.aio.Channel) -> Any:
        method: Any = channel.stream_stream(
            ATTACH,
            request_serializer=self.message("AgentMessage").SerializeToString,
            response_deserializer=self.message("PlaneMessage").FromString,
        )
        return method()

    def serving(self, behave: Callable[[Any], Any]) -> Callable[[grpc.aio.Server], None]:
        """A control plane of this version whose streams `behave`."""

        async def attach(_requests: Any, context: Any) -> None:
            await behave(context)

        handler = grpc.stream_stream_rpc_method_handler(
            attach,
            request_deserializer=self.message("AgentMessage").FromString,
            response_serializer=self.message("PlaneMessage").SerializeToString,
        )
        service = grpc.method_handlers_generic_handler("longshore.agent.v1.Agent", {"Attach": handler})
        return lambda server: server.add_generic_rpc_handlers((service,))


@functools.cache
def previous() -> Protocol:
    return Protocol(previous_files())


@functools.cache
def following() -> Protocol:
    """Today's, and a body more in both directions, and a field more in Hello and Welcome."""
    files = today_files()
    for file in files:
        for message in file.message_type:
            if file.package == "longshore.agent.v1" and message.name in ("AgentMessage", "PlaneMessage"):
                _add(message, "telepathy", ".longshore.agent.v1.ProbeReply").oneof_index = 0
            if file.package == "longshore.agent.v1" and message.name in ("Hello", "Welcome"):
                _add(message, "mood", ".longshore.agent.v1.ProbeReply")
    return Protocol(files)


def previous_files() -> list[FileDescriptorProto]:
    """Ours; what others define (etcd) changes with them."""
    files = FileDescriptorSet.FromString(PREVIOUS.read_bytes()).file
    return [file for file in files if file.package.startswith("longshore.")]


def today_files() -> list[FileDescriptorProto]:
    """Each after those that it needs."""
    files: list[FileDescriptorProto] = []
    for module in _TODAY:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        files.append(file)
    ordered: list[FileDescriptorProto] = []
    while files:
        known = {file.name for file in ordered}
        ready = [file for file in files if set(file.dependency) <= known]
        assert ready, "a file of the protocol is missing from _TODAY"
        ordered += ready
        files = [file for file in files if file not in ready]
    return ordered


def _add(message: DescriptorProto, name: str, of: str) -> FieldDescriptorProto:
    field: FieldDescriptorProto = message.field.add(
        name=name,
        number=UNKNOWN,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=of,
    )
    return field
