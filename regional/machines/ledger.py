"""The book of this rack: targets, installations and tokens, and every transition of them, one at a time.

Invariants: a change is on the disk before anybody is answered by it; a token is worth something to the one machine and
the one boot that it was made for; of each intent there is one course (`course`), whatever asks, in whatever order, with
the centre there or not. Blocking, for threads; a caller that gives up leaves a whole transition behind, or none.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

import structlog

from common.errors import Denied, Unauthenticated
from proto.regional.v1 import machines_pb2 as pb
from regional.machines import course
from regional.machines.course import Moved
from regional.machines.model import Install, Intent, Phase, PhaseSaid, Said, Session, Stage, StepPhase, Target
from regional.machines.reports import Writer
from regional.machines.store import Change, Report, Store
from regional.machines.words import targets_of

log = structlog.get_logger()

# A machine that was given a script and never spoke holds no place in the queue for longer.
_UNHEARD_SECONDS = 900.0
# Strangers may boot as often as they like, and each boot has a token.
_MOST_SESSIONS = 20_000
_ENDED_AT_ONCE = 1000
_FORGOT = "this regional lost what it knew of begun installations; approve anew what shall be installed"


class TokenUnknown(Unauthenticated):
    """No boot was given it, or it is too old."""

    code = "machine_token_unknown"


class TokenForeign(Denied):
    """It was given to another machine, or to an earlier boot of this one."""

    code = "machine_token_foreign"


@dataclass(frozen=True, slots=True)
class Told:
    """What a transition was about, for the timeline."""

    mac: str
    stage: str
    detail: str
    trouble: bool = False


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who speaks with a token. `install` None: it only looks around; `intent` None: its approval was withdrawn."""

    session: Session
    target: Target | None
    intent: Intent | None = None
    install: Install | None = None


@dataclass(slots=True)
class _State:
    targets: dict[str, Target] = field(default_factory=dict)
    by_mac: dict[str, Target] = field(default_factory=dict)
    installs: dict[str, Install] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    forgot: bool = False


class Ledger:
    """`tell`: for the timeline; `completed`: an installation took so many seconds; `reported`: there is something for
    the centre. All three are called from any thread.
    """

    def __init__(self, store: Store, writer: Writer) -> None:
        self._store = store
        self._writer = writer
        self._lock = threading.RLock()
        self._state = _State()
        self.fresh = True
        self.tell: Callable[[Told], None] = lambda _: None
        self.completed: Callable[[float], None] = lambda _: None
        self.reported: Callable[[], None] = lambda: None

    def open(self, now: float) -> None:
        """Raises `MachinesNotStored`. `fresh` afterwards: nothing was known, so nothing that the centre said counts."""
        with self._lock:
            known = self._store.open(now)
            self._state = _State(installs=known.installs, sessions=known.sessions, forgot=known.forgot)
            self._index(targets_of(known.targets.values()))
            self.fresh = known.fresh
        log.info("machines taken up", targets=len(self._state.targets), installs=len(known.installs))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else changes anything meanwhile."""
        with self._lock:
            yield

    # ---- desired state ----

    def change(
        self, changed: Collection[pb.BootTarget], removed: Collection[str], now: float, *, whole: bool = False
    ) -> None:
        """What the centre says. `whole`: machines it does not name are strangers again."""
        bodies: dict[str, bytes | None] = dict.fromkeys(removed)
        bodies.update({each.machine_id: each.SerializeToString() for each in changed})
        with self._lock:
            kept = [] if whole else [each for each in self._state.targets.values() if each.machine_id not in bodies]
            fresh = [*kept, *targets_of(body for body in bodies.values() if body is not None)]
            moves = [*self._withdrawn(fresh), *(self._distrusted(fresh, now) if whole else [])]
            installs = [moved.install for moved in moves]
            reports = [report for moved in moves for report in self._written(moved, now)]
            self._store.write(Change(bodies, whole=whole, installs=installs, reports=reports, remembered=whole))
            self._state.installs.update({each.intent_id: each for each in installs})
            self._state.forgot = self._state.forgot and not whole
            self._index(fresh)
        if reports:
            self.reported()

    def _withdrawn(self, fresh: list[Target]) -> list[Moved]:
        wanted = {target.intent.id for target in fresh if target.intent is not None}
        running = [each for each in self._state.installs.values() if not each.stage.over]
        return [
            course.withdrawn(each, "its approval was withdrawn") for each in running if each.intent_id not in wanted
        ]

    def _distrusted(self, fresh: list[Target], now: float) -> list[Moved]:
        if not self._state.forgot:
            return []
        intents = [(each.machine_id, each.intent.id) for each in fresh if each.intent is not None]
        lost = [Install(intent, machine, Stage.OFFERED, "", now, now) for machine, intent in intents]
        return [course.failed(each, _FORGOT, now) for each in lost if each.intent_id not in self._state.installs]

    def _index(self, targets: list[Target]) -> None:
        self._state.targets = {target.machine_id: target for target in targets}
        self._state.by_mac = {mac: target for target in targets for mac in target.macs}

    # ---- looking ----

    def target(self, mac: str) -> Target | None:
        return self._state.by_mac.get(mac)

    def targets(self) -> list[Target]:
        return list(self._state.targets.values())

    def install(self, intent_id: str) -> Install | None:
        return self._state.installs.get(intent_id)

    def running(self, now: float) -> set[str]:
        """Machines that install at this moment."""
        return {
            each.machine_id
            for each in list(self._state.installs.values())
            if each.stage is Stage.RUNNING or (each.stage is Stage.OFFERED and now - each.heard_at < _UNHEARD_SECONDS)
        }

    # ---- a machine speaks ----

    def bearer(self, token: str) -> Bearer:
        """Raises `TokenUnknown` or `TokenForeign`."""
        key = token_hash(token)
        with self._lock:
            session = self._state.sessions.get(key)
            if session is None:
                raise TokenUnknown("no boot was given this token", action="boot again from the network")
            target = self._state.targets.get(session.machine_id) if session.machine_id else self.target(session.mac)
            install = self._state.installs.get(session.intent_id)
            if install is None:
                return Bearer(session, target)
            if install.session != key:
                raise TokenForeign("a later boot of this machine has another token", action="stop; that boot goes on")
            intent = target.intent if target is not None else None
            return Bearer(session, target, intent if intent and intent.id == session.intent_id else None, install)

    def act(self, token: str, now: float, move: Callable[[Intent, Install], Moved]) -> Bearer:
        """One transition of the bearer's installation. Raises what `move` raises, and `InstallOver` if its approval was
        withdrawn or it has none.
        """
        with self._lock:
            bearer = self.bearer(token)
            if bearer.install is None:
                raise course.InstallOver("nothing is to be installed with this token", action="ask isInInstallQueue")
            if bearer.intent is None:
                why = f"the installation is {bearer.install.stage}: its approval was withdrawn"
                raise course.InstallOver(why, action="stop; another one needs another approval")
            moved = move(bearer.intent, bearer.install)
            self.commit(moved, bearer.session.mac, now)
            return replace(bearer, install=moved.install)

    def admit(self, token: str, session: Session) -> None:
        """A boot that only looks around. Of too many the oldest end."""
        with self._lock:
            crowded = len(self._state.sessions) >= _MOST_SESSIONS
            looking = (key for key, each in self._state.sessions.items() if not each.intent_id) if crowded else iter(())
            ended = list(islice(looking, _ENDED_AT_ONCE))
            self._store.write(Change(sessions={token_hash(token): session}, ended_sessions=ended))
            for key in ended:
                del self._state.sessions[key]
            self._state.sessions[token_hash(token)] = session

    def report(self, *reports: Report) -> None:
        """Something for the centre; on the disk when this returns."""
        if reports:
            self._store.write(Change(reports=reports))
            self.reported()

    def sweep(self, now: float) -> None:
        """What time does; call it every few seconds."""
        with self._lock:
            for target in self._state.targets.values():
                install = self._state.installs.get(target.intent.id) if target.intent is not None else None
                if install is None or target.intent is None:
                    continue
                moved = course.waited(target.intent, install, now)
                if moved is not None:
                    self.commit(moved, target.macs[0], now)

    # ---- durability ----

    def commit(self, moved: Moved, mac: str, now: float, sessions: Mapping[str, Session] | None = None) -> None:
        """Raises `MachinesNotStored`; then nothing changed. `sessions`: by hash of their token."""
        install = moved.install
        if self._state.installs.get(install.intent_id) == install and not sessions and not moved.said:
            return
        reports = self._written(moved, now)
        self._store.write(Change(installs=(install,), sessions=sessions or {}, reports=reports))
        self._state.installs[install.intent_id] = install
        self._state.sessions.update(sessions or {})
        if install.stage is Stage.COMPLETED and moved.said:
            self.completed(now - install.began_at)
        for said in moved.said:
            self.tell(_told(mac, said))
        if reports:
            self.reported()

    def _written(self, moved: Moved, now: float) -> list[Report]:
        install = moved.install
        return [self._writer.said(install.machine_id, install.intent_id, said, now) for said in moved.said]


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _told(mac: str, said: Said) -> Told:
    if isinstance(said, PhaseSaid):
        detail = f"{said.phase}: {said.detail}" if said.detail else str(said.phase)
        return Told(mac, "install", detail, said.phase is Phase.FAILED)
    text = f"{said.operation_id} {said.phase}" + (f" {said.percent} %" if said.phase is StepPhase.PROGRESS else "")
    return Told(mac, "step", f"{text}: {said.text[:200]}" if said.text else text, said.phase is StepPhase.FAILED)
