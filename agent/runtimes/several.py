"""Several container engines on one host, as one: images of each kind go to their engine.

Invariant: an engine that is silent hides nothing and holds up nothing. Its containers are shown as they were last seen,
so nothing is reported gone or made a second time, while those of the others go on. An engine counts from the moment
when it first answered, or from the beginning if the operator named it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace

from agent.model import LIVE_STATES, Assignments, Container, Engine, Health, Image
from agent.runtimes import RuntimeDriver
from agent.runtimes.failures import ContainerUnknown, EngineAway, NotOurs
from agent.runtimes.orders import Adoption, Capabilities, ContainerOrder, Sample, Snapshot, Stranger
from agent.runtimes.streams import ExecOrder, LogQuery, Piece, Session, Size
from common.digest import Digest
from common.errors import Failure
from common.lxd_image import CONFIG as LXD_CONFIG

DOCKER, LXD = "docker", "lxd"


def engine_for(image: Image) -> str:
    """The kind of engine that an image is for: its config says it."""
    return LXD if image.contents and image.contents[0].media_type == LXD_CONFIG else DOCKER


def kind_by(assignments: Callable[[], Assignments]) -> Callable[[Digest], str]:
    """By what is assigned: nobody asks for another image."""

    def kind_of(manifest: Digest) -> str:
        found = (one.image for one in assignments().items.values() if one.image.manifest.digest == manifest)
        return next((engine_for(image) for image in found), DOCKER)

    return kind_of


class SeveralEngines:
    """`drivers` by kind. `required`: all of them count even before they answer."""

    def __init__(
        self, drivers: Mapping[str, RuntimeDriver], kind_of: Callable[[Digest], str], *, required: bool = False
    ) -> None:
        self._drivers = dict(drivers)
        self._kind_of = kind_of
        self._counts = set(drivers) if required else set[str]()
        self._seen: dict[str, Sequence[Container]] = {}
        self._owners: dict[str, str] = {}

    @property
    def capabilities(self) -> Capabilities:
        """What any of them can."""
        said = [self._drivers[kind].capabilities for kind in sorted(self._counts)]
        return Capabilities(**{one.name: any(getattr(each, one.name) for each in said) for one in fields(Capabilities)})

    async def engines(self) -> tuple[Engine, ...]:
        """Those that answer now."""
        found = []
        for kind, driver in self._drivers.items():
            try:
                found.append(await driver.describe())
            except Failure:
                continue
            self._counts.add(kind)
        return tuple(found)

    async def describe(self) -> Engine:
        found = await self.engines()
        if not found:
            raise EngineAway("no container engine answers", action="start one", retry_after_seconds=2)
        return found[0]

    async def containers(self) -> Sequence[Container]:
        kinds = sorted(self._counts)
        found = await asyncio.gather(*(self._drivers[kind].containers() for kind in kinds), return_exceptions=True)
        failures = [one for one in found if isinstance(one, BaseException)]
        for failure in failures:
            if not isinstance(failure, Failure) or len(failures) == len(kinds):
                raise failure
        shown: list[Container] = []
        owners: dict[str, str] = {}
        for kind, answer in zip(kinds, found, strict=True):
            if isinstance(answer, BaseException):
                shown += [_as_last_seen(one, str(answer)) for one in self._seen.get(kind, ())]
            else:
                self._seen[kind] = answer
                shown += answer
            owners |= dict.fromkeys((one.runtime_id for one in self._seen.get(kind, ())), kind)
        self._owners = owners
        return shown

    async def images(self, wanted: Collection[Digest]) -> frozenset[Digest]:
        """A silent engine's are not known, which leads to a pull that says so."""
        held: set[Digest] = set()
        answered, silence = False, None
        for kind in sorted(self._counts):
            if of_kind := [digest for digest in wanted if self._kind_of(digest) == kind]:
                try:
                    held |= await self._drivers[kind].images(of_kind)
                    answered = True
                except EngineAway as away:
                    silence = away
        if silence is not None and not answered:
            raise silence
        return frozenset(held)

    async def pull(self, repository: str, manifest: Digest) -> None:
        await self._for(manifest).pull(repository, manifest)

    async def pull_ahead(self, repository: str, manifest: Digest) -> None:
        await self._for(manifest).pull_ahead(repository, manifest)

    async def create(self, order: ContainerOrder) -> str:
        runtime_id = await self._for(order.manifest).create(order)
        self._owners[runtime_id] = self._kind_of(order.manifest)
        return runtime_id

    async def start(self, runtime_id: str) -> None:
        await (await self._of(runtime_id)).start(runtime_id)

    async def stop(self, runtime_id: str, grace_seconds: int) -> None:
        await (await self._of(runtime_id)).stop(runtime_id, grace_seconds)

    async def restart(self, runtime_id: str, grace_seconds: int) -> None:
        await (await self._of(runtime_id)).restart(runtime_id, grace_seconds)

    async def pause(self, runtime_id: str) -> None:
        await (await self._of(runtime_id)).pause(runtime_id)

    async def resume(self, runtime_id: str) -> None:
        await (await self._of(runtime_id)).resume(runtime_id)

    async def rename(self, runtime_id: str, name: str) -> None:
        await (await self._of(runtime_id)).rename(runtime_id, name)

    async def remove(self, runtime_id: str) -> None:
        with contextlib.suppress(ContainerUnknown):
            await (await self._of(runtime_id)).remove(runtime_id)

    @contextlib.asynccontextmanager
    async def logs(self, runtime_id: str, query: LogQuery) -> AsyncIterator[AsyncIterator[Piece]]:
        async with (await self._of(runtime_id)).logs(runtime_id, query) as found:
            yield found

    @contextlib.asynccontextmanager
    async def execute(self, runtime_id: str, order: ExecOrder) -> AsyncIterator[Session]:
        async with (await self._of(runtime_id)).execute(runtime_id, order) as found:
            yield found

    @contextlib.asynccontextmanager
    async def console(self, runtime_id: str, size: Size) -> AsyncIterator[Session]:
        async with (await self._of(runtime_id)).console(runtime_id, size) as found:
            yield found

    async def sample(self, runtime_id: str) -> Sample:
        return await (await self._of(runtime_id)).sample(runtime_id)

    async def snapshot(self, runtime_id: str, name: str) -> None:
        await (await self._of(runtime_id)).snapshot(runtime_id, name)

    async def snapshots(self, runtime_id: str) -> Sequence[Snapshot]:
        return await (await self._of(runtime_id)).snapshots(runtime_id)

    async def restore(self, runtime_id: str, name: str) -> None:
        await (await self._of(runtime_id)).restore(runtime_id, name)

    async def delete_snapshot(self, runtime_id: str, name: str) -> None:
        await (await self._of(runtime_id)).delete_snapshot(runtime_id, name)

    @contextlib.asynccontextmanager
    async def export(self, runtime_id: str, *, with_snapshots: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        async with (await self._of(runtime_id)).export(runtime_id, with_snapshots=with_snapshots) as found:
            yield found

    async def take_in(self, order: ContainerOrder, move_id: str, archive: AsyncIterator[bytes]) -> str:
        runtime_id = await self._for(order.manifest).take_in(order, move_id, archive)
        self._owners[runtime_id] = self._kind_of(order.manifest)
        return runtime_id

    async def clear_taken(self, keep: Callable[[], Collection[str]]) -> None:
        for kind in sorted(self._counts):
            with contextlib.suppress(EngineAway):
                await self._drivers[kind].clear_taken(keep)

    async def strangers(self, named: Collection[str] = ()) -> Sequence[Stranger]:
        found: list[Stranger] = []
        for kind in sorted(self._counts):
            try:
                answer = await self._drivers[kind].strangers(named)
            except EngineAway:
                continue
            self._owners |= dict.fromkeys((one.runtime_id for one in answer), kind)
            found += answer
        return found

    def claim(self, adoptions: Mapping[str, Adoption]) -> None:
        for driver in self._drivers.values():
            driver.claim(adoptions)

    async def close(self) -> None:
        for driver in self._drivers.values():
            await driver.close()

    def _for(self, manifest: Digest) -> RuntimeDriver:
        kind = self._kind_of(manifest)
        if kind not in self._counts:
            raise EngineAway(
                f"the image is for {kind}, and no {kind} answers on this host",
                action=f"start {kind} there, or choose another host",
                retry_after_seconds=10,
            )
        return self._drivers[kind]

    async def _of(self, runtime_id: str) -> RuntimeDriver:
        """Who has shown it; of an id that nobody has shown, whoever knows it, which also says whose it is."""
        kind = self._owners.get(runtime_id)
        if kind is not None:
            return self._drivers[kind]
        silence: EngineAway | None = None
        for kind in sorted(self._counts):
            try:
                await self._drivers[kind].sample(runtime_id)
            except ContainerUnknown:
                continue
            except EngineAway as away:
                silence = away
                continue
            except NotOurs:
                pass
            return self._drivers[kind]
        raise silence or ContainerUnknown(f"no engine of this host has {runtime_id}", action="look at the host again")


def _as_last_seen(container: Container, why: str) -> Container:
    alive = container.state in LIVE_STATES
    return replace(container, health=Health.UNKNOWN if alive else container.health, detail=why)
