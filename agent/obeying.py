"""Commands of the control plane, wired: their journal, what they do, and the stream they come by. What the composition
root asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any

from agent.cache import ContentCache
from agent.commands import Commands
from agent.deeds import Deeds
from agent.desired import DesiredBook
from agent.eviction import Eviction
from agent.inventory_model import HostFacts
from agent.journal import Journal
from agent.reconciler import Reconciler
from agent.reporter import Reporter
from agent.runtimes import RuntimeDriver
from agent.session import Session
from common.clock import Clock


async def obey(
    journal: Journal,
    reporter: Reporter,
    clock: Clock,
    book: DesiredBook,
    driver: Callable[[], RuntimeDriver | None],
    cache: ContentCache,
    eviction: Eviction,
    reconciler: Reconciler,
    facts: Callable[[], HostFacts],
    session: Session,
    spawn: Callable[[str, Coroutine[Any, Any, None]], object],
) -> Commands:
    """Before the agent attaches, so that no command comes to deaf ears."""

    def about() -> dict[str, Any]:
        return {"facts": asdict(facts()), "attached": session.attached, "attachments": session.rounds}

    deeds = Deeds(book, driver, cache, eviction, reconciler.hold, reconciler.try_again, about)
    commands = Commands(journal, reporter, clock, deeds.carry_out)
    await commands.load()
    session.commanded = commands.received
    spawn("commands", commands.run())
    return commands
