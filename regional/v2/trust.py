"""Whose registry tokens count, and where clients get them: the centre's key set and token service, kept on disk.

Invariant: what was learned once survives a restart while the centre is away; keys that the centre does not show any
more stop to count with the next answer.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from common.backoff import jittered
from common.clock import Clock
from common.durable import write_file
from common.errors import Failure
from regional.v2.centre import CentreRegistry
from regional.v2.tokens import RegistryVerifier

log = structlog.get_logger()

_PERIOD_SECONDS = 600.0
_RETRY_SECONDS = 5.0
# A token by an unknown key asks for the keys anew, but forged ones must not make us ask without end.
_SOONEST_SECONDS = 10.0
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Trust:
    """`realm`: the centre's token service; empty before it was ever learned. `service`: what tokens are for."""

    def __init__(
        self,
        centre: CentreRegistry,
        verifier: RegistryVerifier,
        path: Path,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._centre = centre
        self._verifier = verifier
        self._path = path
        self._clock = clock
        self._random = random
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._said: dict[str, Any] = {}

    @property
    def realm(self) -> str:
        return str(self._said.get("realm", ""))

    @property
    def service(self) -> str:
        return str(self._said.get("service", ""))

    async def load(self) -> None:
        """What an earlier process learned."""
        try:
            self._use(json.loads(await asyncio.to_thread(self._path.read_bytes)))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("the centre's keys on disk are not readable; they are asked again", error=str(error))

    async def keep_fresh(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.refresh()
                pause = _PERIOD_SECONDS
            except (Failure, OSError) as failure:
                log.info("the centre's registry keys not refreshed", error=str(failure))
                pause = _RETRY_SECONDS
            await self._clock.sleep(jittered(pause, 0.2, self._random))

    async def refresh(self) -> None:
        """Ask now, unless it was just done. Raises `CentreAway`, `CentreBusy`, OSError."""
        async with self._asking:
            if self._clock.monotonic() - self._asked_at < _SOONEST_SECONDS:
                return
            said = {"jwks": await self._centre.document("/.well-known/jwks.json"), **await self._challenge()}
            self._asked_at = self._clock.monotonic()
            if said == self._said:
                return
            self._use(said)
            await asyncio.to_thread(self._write)
            log.info("the centre's registry keys learned", realm=self.realm, service=self.service)

    async def _challenge(self) -> dict[str, str]:
        """RFC 6750 section 3, as the Docker token specification has it."""
        async with self._centre.ask("GET", "/v2/", {}, seconds=_RETRY_SECONDS) as response:
            found = dict(_PARAMETER.findall(response.headers.get("WWW-Authenticate", "")))
        return {"realm": found.get("realm", ""), "service": found.get("service", "")}

    def _use(self, said: dict[str, Any]) -> None:
        self._verifier.trust(said["jwks"], str(said["service"]))
        self._said = said

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(self._path, json.dumps(self._said).encode())
