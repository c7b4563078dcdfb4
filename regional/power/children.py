"""The port by processes, one a session, each with the library of its protocol (see `speaking`).

Invariant: a word ends by its deadline, and its process with it; at most `at_once` sessions are open, the others wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.errors import Failure
from regional.power import (
    WORD_SECONDS,
    Bmc,
    BmcLoginRefused,
    BmcNotAnswering,
    BmcNotTrusted,
    BmcRefused,
    PowerState,
    Protocols,
    Turn,
)
from regional.power.libraries import require

_MODULES = {Protocols.REDFISH: "regional.power.redfish", Protocols.IPMI: "regional.power.ipmi"}
# Importing either took 0.7 s; a busy machine may have no processor for a while.
_START_SECONDS = 60.0
_END_SECONDS = 2.0
_LONGEST_ANSWER = 1 << 16
FAILURES: Mapping[str, tuple[type[Failure], str]] = {
    "login": (BmcLoginRefused, "correct its user and password: `longshore machine power bmc`"),
    "trust": (BmcNotTrusted, "compare the certificate's fingerprint with the BMC's, and give it"),
    "refused": (BmcRefused, "look at the BMC itself"),
    "silent": (BmcNotAnswering, "check its address, its port and the network between"),
}


class Children:
    """`ca_file`: what certificates are verified with that are not pinned; None: this system's authorities."""

    def __init__(self, at_once: int, ca_file: Path | None = None, word_seconds: float = WORD_SECONDS) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._ca_file = ca_file
        self._word_seconds = word_seconds

    @contextlib.asynccontextmanager
    async def session(self, bmc: Bmc) -> AsyncIterator[ChildSession]:
        require(bmc.protocol)
        async with self._turns:
            session = ChildSession(bmc, self._ca_file, self._word_seconds)
            try:
                yield session
            finally:
                await session.close()


class ChildSession:
    """Its process starts with the first word, and anew with the next after one that was not answered."""

    def __init__(self, bmc: Bmc, ca_file: Path | None, word_seconds: float) -> None:
        self._bmc = bmc
        self._first = {**asdict(bmc), "ca_file": str(ca_file) if ca_file is not None else ""}
        self._word_seconds = word_seconds
        self._process: asyncio.subprocess.Process | None = None

    async def state(self) -> PowerState:
        return PowerState(await self._word(word="state"))

    async def turn(self, how: Turn) -> None:
        await self._word(word="turn", how=how.value)

    async def boot_from_network_once(self, *, uefi: bool, http: bool) -> None:
        await self._word(word="boot", uefi=uefi, http=http)

    async def close(self) -> None:
        """The process is gone when it returns, also when this is cancelled meanwhile."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            assert process.stdin is not None  # noqa: S101  it is a pipe
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                # It says good-bye to the BMC.
                async with asyncio.timeout(_END_SECONDS):
                    await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())

    async def _word(self, **asked: Any) -> Any:
        process = self._process if self._process is not None else await self._start()
        try:
            async with asyncio.timeout(self._word_seconds):
                answer = await _exchange(process, asked)
        except (TimeoutError, OSError, ValueError) as error:
            await self._kill(process)
            raise BmcNotAnswering(
                f"{self._name} does not answer in {self._word_seconds:g} s", action=FAILURES["silent"][1]
            ) from error
        if "failure" in answer:
            kind, action = FAILURES.get(answer["failure"], FAILURES["refused"])
            raise kind(f"{self._name}: {answer.get('detail', '')}", action=action)
        return answer.get("said")

    async def _start(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        process: asyncio.subprocess.Process | None = None
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _MODULES[self._bmc.protocol],
                stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, limit=_LONGEST_ANSWER,
            )  # fmt: skip
            async with asyncio.timeout(_START_SECONDS):
                await _read(process)
                assert process.stdin is not None  # noqa: S101  it is a pipe
                process.stdin.write(json.dumps(self._first).encode() + b"\n")
                await process.stdin.drain()
        except (TimeoutError, OSError, ValueError) as error:
            if process is not None:
                await self._kill(process)
            # Of this failure, not of the missing library: it may come in the middle of a deed.
            raise BmcNotAnswering(
                f"what speaks {self._bmc.protocol.value} with {self._name} does not start",
                action=f"see what `python -m {_MODULES[self._bmc.protocol]}` says",
            ) from error
        return process

    async def _kill(self, process: asyncio.subprocess.Process) -> None:
        self._process = None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())

    @property
    def _name(self) -> str:
        return f"the BMC at {self._bmc.address} port {self._bmc.port}"


async def _exchange(process: asyncio.subprocess.Process, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    assert process.stdin is not None  # noqa: S101  it is a pipe
    process.stdin.write(json.dumps(asked).encode() + b"\n")
    await process.stdin.drain()
    return await _read(process)


async def _read(process: asyncio.subprocess.Process) -> Mapping[str, Any]:
    """Raises `ValueError` if it ended, or speaks otherwise than we do."""
    assert process.stdout is not None  # noqa: S101  it is a pipe
    said = json.loads(await process.stdout.readline())
    if not isinstance(said, dict):
        raise ValueError("no answer")
    return said
