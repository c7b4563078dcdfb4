"""The host's desired state: received as a full set and changes, journalled, then seen by everybody else.

Invariant: `current` never shows a generation that is not on disk: what was acted on is known again after a crash.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from agent.journal import Journal
from agent.model import Assignments, Content, DesiredState, Effort, RegionalEndpoint
from agent.wire import assignments_from, endpoints_from
from common.bittorrent import SMALLEST_SWARM_BYTES
from common.content_statement import StatementVerifier
from common.digest import Digest
from common.generations import HeldSet
from common.limit_messages import rules_from
from common.limits import LimitRule
from proto.agent.v1 import agent_pb2
from proto.content.v1 import content_pb2

log = structlog.get_logger()

_ASSIGNMENTS = "assignments"
_REGIONALS = "regionals"
_WELCOME = "welcome"
_LIMITS = "limits"


class DesiredBook:
    """`changed` is called after `current` or `endpoints` became new ones.

    Of the last Welcome, also that of an earlier process: `statements` has its keys; smaller contents than `swarm_bytes`
    have no swarm.
    """

    def __init__(self, journal: Journal, enrolled_url: str) -> None:
        self._journal = journal
        self._enrolled_url = enrolled_url.rstrip("/")
        self._held: HeldSet[str, agent_pb2.Assignment] = HeldSet()
        self._tokens: dict[tuple[str, Digest], str] = {}
        self._efforts: dict[tuple[str, Digest], Effort] = {}
        self.limits: tuple[LimitRule, ...] = ()
        self.current = Assignments()
        self.swarm_bytes = SMALLEST_SWARM_BYTES
        self.endpoints: tuple[RegionalEndpoint, ...] = ()
        self.centre_url = self._enrolled_url
        self.statements = StatementVerifier()
        self._welcomed = agent_pb2.Welcome()
        self.changed: Callable[[], None] = lambda: None

    async def load(self) -> None:
        """What the last process knew, so that work goes on while the control plane is away."""
        stored = await self._journal.load_message(_ASSIGNMENTS, agent_pb2.AssignmentSet())
        if stored is not None:
            self._held.replace(stored.results_in, {one.instance_id: one for one in stored.assignments})
            self._show()
        regionals = await self._journal.load_message(_REGIONALS, agent_pb2.Regionals())
        if regionals is not None:
            self.endpoints = endpoints_from(regionals)
        welcome = await self._journal.load_message(_WELCOME, agent_pb2.Welcome())
        if welcome is not None:
            self._heed(welcome)
        limits = await self._journal.load_message(_LIMITS, content_pb2.Limits())
        if limits is not None:
            self.limits = rules_from(limits)

    def assigned(self) -> dict[tuple[str, Digest], Content]:
        """Every content that this host is to hold, by tenant and digest; what is being removed is not."""
        return {
            (assignment.tenant_id, content.digest): content
            for assignment in self.current.items.values()
            if assignment.desired_state is not DesiredState.REMOVED
            for content in assignment.image.everything
        }

    def effort(self, tenant_id: str, digest: Digest) -> Effort:
        """With which it is to be fetched; of what is not assigned, ordinary."""
        return self._efforts.get((tenant_id, digest), Effort.ORDINARY)

    def token(self, tenant_id: str, digest: Digest) -> str:
        """The newest right to read that content; empty if it is not assigned."""
        return self._tokens.get((tenant_id, digest), "")

    async def welcome(self, message: agent_pb2.Welcome) -> None:
        lasting = agent_pb2.Welcome(
            content_url=message.content_url,
            verifying_keys=message.verifying_keys,
            smallest_swarm_bytes=message.smallest_swarm_bytes,
        )
        if lasting != self._welcomed:
            await self._journal.save_message(_WELCOME, lasting)
            self._heed(lasting)

    async def replace(self, message: agent_pb2.AssignmentSet) -> None:
        held: HeldSet[str, agent_pb2.Assignment] = HeldSet()
        held.replace(message.results_in, {one.instance_id: one for one in message.assignments})
        await self._take(held)

    async def change(self, message: agent_pb2.AssignmentChanges) -> None:
        """Raises `Stale` on a gap and then changes nothing."""
        held = HeldSet(self._held.generation, dict(self._held.items))
        held.apply(
            message.applies_to,
            message.results_in,
            {one.instance_id: one for one in message.changed},
            message.removed,
        )
        await self._take(held)

    async def regionals(self, message: agent_pb2.Regionals) -> None:
        endpoints = endpoints_from(message)
        if endpoints != self.endpoints:
            await self._journal.save_message(_REGIONALS, message)
            self.endpoints = endpoints
            self.changed()

    async def limit(self, message: content_pb2.Limits) -> None:
        rules = rules_from(message)
        if rules != self.limits:
            await self._journal.save_message(_LIMITS, message)
            self.limits = rules
            log.info("limits received", rules=len(rules))

    async def _take(self, held: HeldSet[str, agent_pb2.Assignment]) -> None:
        stored = agent_pb2.AssignmentSet(results_in=held.generation, assignments=held.items.values())
        await self._journal.save_message(_ASSIGNMENTS, stored)
        self._held = held
        self._show()
        log.info("desired state journalled", generation=held.generation, assignments=len(held.items))
        self.changed()

    def _heed(self, welcome: agent_pb2.Welcome) -> None:
        self._welcomed = welcome
        self.swarm_bytes = welcome.smallest_swarm_bytes or SMALLEST_SWARM_BYTES
        self.centre_url = welcome.content_url.rstrip("/") or self._enrolled_url
        self.statements.replace_keys({key.key_id: key.public_key_pem for key in welcome.verifying_keys})

    def _show(self) -> None:
        self.current = assignments_from(self._held.generation, self._held.items.values())
        for instance_id, unreadable in self.current.unreadable.items():
            log.error("assignment not understood", instance=instance_id, error=unreadable.reason)
        self._tokens = {
            (assignment.tenant_id, content.digest): content.token
            for assignment in self.current.items.values()
            for content in assignment.image.everything
        }
        self._efforts = {}
        for assignment in self.current.items.values():
            if assignment.desired_state is not DesiredState.REMOVED:
                for content in assignment.image.everything:
                    key = assignment.tenant_id, content.digest
                    known = self._efforts.get(key, assignment.effort)
                    self._efforts[key] = min(known, assignment.effort, key=lambda effort: effort.value)
