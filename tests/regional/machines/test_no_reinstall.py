"""No sequence of boots, words, restarts and kill -9 installs twice what was approved once."""

from __future__ import annotations

import itertools
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common.errors import Failure
from proto.regional.v1 import machines_pb2 as pb
from regional.machines import course
from regional.machines.asking import Ask, Boot
from regional.machines.course import Moved
from regional.machines.model import Install, Intent, Operation, Word
from regional.machines.store import Change, MachinesNotStored

from .rack import IMAGE, MAC, NOW, Rack, distribution, distribution_intent, image_intent, raid_operations, target

_KINDS = ["image", "raid", "distribution", "odd"]


class OneMachine(RuleBasedStateMachine):
    """Tokens of all boots stay in somebody's hands, and nonces come again: packets are late, and people are curious."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.rack = Rack(Path(self._directory.name))
        self.now = NOW
        self.numbers = itertools.count(1)
        self.tokens: list[str] = []
        self.intent: pb.InstallIntent | None = None
        # (intent, operation): nonces under which a machine was told to do it; (intent, "kernel"): boots that got it.
        self.done: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.dies = False
        self._break_commits()

    def teardown(self) -> None:
        self.rack.store.close()
        self._directory.cleanup()

    def _break_commits(self) -> None:
        """Each write is followed by a crash of the process if `dies` says so: on the disk, and nobody was told."""
        write = self.rack.store.write

        def writing(change: Change) -> None:
            write(change)
            if self.dies:
                raise MachinesNotStored("the power went")

        self.rack.store.write = writing  # type: ignore[method-assign]

    @initialize(kind=st.sampled_from(_KINDS))
    def first(self, kind: str) -> None:
        self.approve(kind)

    @rule(kind=st.sampled_from([*_KINDS, "none"]))
    def approve(self, kind: str) -> None:
        name = f"i{next(self.numbers)}"
        self.intent = {
            "image": image_intent(name),
            "raid": pb.InstallIntent(id=name, operations=raid_operations()),
            "distribution": distribution_intent(name),
            "odd": pb.InstallIntent(id=name, boot=distribution(), operations=raid_operations()),
            "none": None,
        }[kind]
        self.tell(whole=False)

    @rule(whole=st.booleans())
    def tell(self, whole: bool) -> None:
        with suppress(MachinesNotStored):
            self.rack.ledger.change([target(self.intent)], [], self.now, whole=whole)

    @rule(after=st.sampled_from([0.0, 30.0]))
    def boot(self, after: float) -> None:
        self.now += after
        with suppress(MachinesNotStored):
            answer = self.rack.doorway.ask(Ask(MAC, ""), self.now)
            if isinstance(answer, Boot):
                self.tokens.append(answer.token)

    @rule(data=st.data(), nonce=st.sampled_from(["a", "b", "c"]), fresh=st.booleans())
    def ask_next(self, data: st.DataObject, nonce: str, fresh: bool) -> None:
        nonce = f"n{next(self.numbers)}" if fresh else nonce
        given: list[Operation] = []

        def move(intent: Intent, install: Install) -> Moved:
            moved, operation = course.asks_next(intent, install, nonce, self.now)
            given.extend([operation] if operation is not None else [])
            return moved

        with suppress(Failure):
            token = self._token(data)
            bearer = self.rack.ledger.act(token, self.now, move)
            assert bearer.install is not None
            if given and given[0].word is not Word.REBOOT:
                self.done[bearer.install.intent_id, given[0].id].add(nonce)

    @rule(data=st.data(), repeated=st.booleans())
    def fetch_kernel(self, data: st.DataObject, repeated: bool) -> None:
        if not repeated:
            self.boot(after=30.0)
        with suppress(Failure):
            token = self._token(data) if repeated or not self.tokens else self.tokens[-1]
            bearer = self.rack.ledger.act(token, self.now, lambda _, install: course.hands_over(install, self.now))
            assert bearer.install is not None
            if bearer.intent is not None and bearer.intent.boot is not None:
                self.done[bearer.install.intent_id, "kernel"].add(token)

    @rule(data=st.data(), operation=st.sampled_from(["raid", "again", "wipe", "write", "done", "os_install", ""]))
    def end(self, data: st.DataObject, operation: str) -> None:
        digest = str(IMAGE)
        with suppress(Failure):
            self.rack.ledger.act(
                self._token(data), self.now, lambda a, b: course.ends(a, b, operation, digest, self.now)
            )

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        with suppress(Failure):
            self.rack.ledger.act(self._token(data), self.now, lambda a, b: course.breaks(a, b, "", "no disk", self.now))

    @rule(seconds=st.sampled_from([1.0, 30.0, 200.0, 5000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        with suppress(MachinesNotStored):
            self.rack.ledger.sweep(self.now)

    @rule()
    def kill(self) -> None:
        self.rack.kill()
        self.dies = False
        self._break_commits()

    @rule()
    def the_next_write_is_the_last(self) -> None:
        self.dies = True

    @invariant()
    def nothing_is_done_twice(self) -> None:
        assert all(len(each) == 1 for each in self.done.values())

    def _token(self, data: st.DataObject) -> str:
        """The newest before older ones."""
        return data.draw(st.sampled_from(self.tokens[::-1])) if self.tokens else "nobody's"


OneMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestOneMachine = OneMachine.TestCase
