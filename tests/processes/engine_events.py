"""What the engines of a host do, as they say it themselves: the moments between two steps of an agent."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

from pylxd.client import EventType

from agent.runtimes import LABEL_INSTANCE
from tests.engines.hosts import HostMachine

NAMES = "ls-acme-"


class EngineEvents:
    """`seen`: (what, name of the container), as they come."""

    def __init__(self) -> None:
        self.seen: queue.Queue[tuple[str, str]] = queue.Queue()

    def next(self, awaited: str, seconds: float = 60) -> tuple[str, str]:
        """`awaited` is for people: what nobody has seen when it fails."""
        try:
            return self.seen.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"the engine does nothing any more; awaited was: {awaited}") from None

    def so_far(self) -> list[tuple[str, str]]:
        """Everything since the last call, or since the beginning."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self.seen.get_nowait())
        return found


@contextlib.contextmanager
def docker_events(machine: HostMachine) -> Iterator[EngineEvents]:
    """`create`, `start`, `kill`, `die`, `rename`, `destroy` of the fleet's containers, `pull` of an image."""
    events = EngineEvents()
    with contextlib.closing(machine.docker.client()) as client:
        stream = client.events(decode=True, filters={"type": ["container", "image"]})

        def listen() -> None:
            for one in stream:
                actor = one["Actor"]["Attributes"]
                if one["Type"] == "image" or LABEL_INSTANCE in actor:
                    events.seen.put((one["Action"], actor.get("name", "")))

        with _listening(listen, stream.close):
            yield events


@contextlib.contextmanager
def lxd_events(machine: HostMachine) -> Iterator[EngineEvents]:
    """LXD's lifecycle: `instance-created`, `instance-started`, ... of the fleet's instances, `image-created`."""
    events = EngineEvents()

    def heard(message: Any) -> None:
        said = json.loads(message.data)["metadata"]
        kind, name = said["source"].split("/")[2:4]
        if kind == "images" or name.startswith(NAMES):
            events.seen.put((said["action"], name.partition("?")[0]))

    stream = machine.lxd.client().events(event_types={EventType.Lifecycle})
    stream.received_message = heard
    stream.connect()
    with _listening(stream.run, stream.close_connection):
        yield events


@contextlib.contextmanager
def _listening(listen: Any, close: Any) -> Iterator[None]:
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        close()
        thread.join(10)
