"""Between our model and longshore.agent.v1; pure."""

from __future__ import annotations

import grpc

from common.errors import Internal
from common.rpc_failures import unpack
from control_plane.channels.model import (
    CommandWanted,
    ConsoleWanted,
    Ended,
    ExportWanted,
    LogsWanted,
    Piece,
    Stream,
    TerminalSize,
    Wanted,
)
from proto.agent.v1 import channels_pb2


def order_message(
    channel_id: str, secret: str, address: str, instance_id: str, longest_seconds: float, wanted: Wanted
) -> channels_pb2.OpenChannel:
    order = channels_pb2.OpenChannel(
        channel_id=channel_id,
        secret=secret,
        address=address,
        instance_id=instance_id,
        longest_seconds=int(longest_seconds),
    )
    match wanted:
        case LogsWanted():
            order.logs.CopyFrom(_logs_message(wanted))
        case CommandWanted():
            order.execute.CopyFrom(_command_message(wanted))
        case ConsoleWanted():
            order.console.CopyFrom(channels_pb2.OpenConsole(terminal=size_message(wanted.terminal)))
        case ExportWanted():
            order.export.CopyFrom(channels_pb2.ExportArchive(with_snapshots=wanted.with_snapshots))
    return order


def size_message(size: TerminalSize) -> channels_pb2.TerminalSize:
    return channels_pb2.TerminalSize(columns=size.columns, rows=size.rows)


def piece_of(message: channels_pb2.ChannelPiece) -> Piece:
    errors = message.stream == channels_pb2.CHANNEL_STREAM_ERRORS
    return Piece(Stream.ERRORS if errors else Stream.OUTPUT, message.data, message.at_ns)


def ended_of(message: channels_pb2.ChannelEnd) -> Ended:
    if message.failure:
        failure = unpack(message.failure, grpc.StatusCode.INTERNAL)
        return Ended(failure=failure or Internal("the host said that the channel failed, in words nobody understands"))
    return Ended(message.exit_code if message.HasField("exit_code") else None)


def _logs_message(wanted: LogsWanted) -> channels_pb2.ReadLogs:
    return channels_pb2.ReadLogs(
        follow=wanted.follow,
        since_ns=wanted.since_ns,
        tail=wanted.tail,
        without_output=not wanted.output,
        without_errors=not wanted.errors,
    )


def _command_message(wanted: CommandWanted) -> channels_pb2.ExecuteCommand:
    return channels_pb2.ExecuteCommand(
        command=wanted.argv,
        environment=dict(wanted.environment),
        user=wanted.user,
        working_directory=wanted.working_directory,
        terminal=None if wanted.terminal is None else size_message(wanted.terminal),
        input=wanted.input,
    )
