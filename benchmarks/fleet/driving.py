"""A process of simulated agents as the benchmark holds it: one question, one answer, each with a deadline."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

_ANSWER_SECONDS = 60.0
_LOOK_SECONDS = 0.1


class CrowdFailed(Exception):
    """The load generator died or fell silent: what it measured means nothing."""


class CrowdProcess:
    """Use as a context manager. The agents it holds begin when they are told to."""

    def __init__(self, identities: Path, first: int, count: int) -> None:
        self.count = count
        command = [sys.executable, "-m", "benchmarks.fleet.crowd", str(identities), str(first), str(count)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)

    def ask(self, what: str, **words: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **words}).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _ANSWER_SECONDS)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise CrowdFailed("the simulated agents do not answer")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Crowds:
    """Several processes as one crowd."""

    def __init__(self, parts: Sequence[CrowdProcess]) -> None:
        self.parts = parts
        self.count = sum(part.count for part in parts)

    def ask(self, what: str, **words: Any) -> list[dict[str, Any]]:
        return [part.ask(what, **words) for part in self.parts]

    def total(self) -> dict[str, Any]:
        """Counts added up; `attached_at`, `lag` and the like are the greatest."""
        answers = self.ask("count")
        total: dict[str, Any] = {}
        for name, value in answers[0].items():
            values = [answer[name] for answer in answers]
            if name == "reasons":
                total[name] = {reason: count for each in values for reason, count in each.items()}
            elif name in ("attached_at", "lag", "peak_kib"):
                total[name] = max(values)
            else:
                total[name] = type(value)(sum(values))
        return total

    def attach(self, targets: Sequence[str], seconds: float = 0.0) -> float:
        """When it began."""
        return min(float(answer["at"]) for answer in self.ask("attach", targets=list(targets), seconds=seconds))

    def cut(self) -> float:
        return min(float(answer["at"]) for answer in self.ask("cut"))

    def wait_attached(self, seconds: float) -> float:
        """When the last one was. Raises `CrowdFailed`."""
        deadline = time.monotonic() + seconds
        while (total := self.total())["attached"] < self.count:
            if time.monotonic() > deadline:
                raise CrowdFailed(f"{total['attached']} of {self.count} are attached after {seconds:.0f} s: {total}")
            time.sleep(_LOOK_SECONDS)
        return float(total["attached_at"])

    def receipts(self) -> list[float]:
        """When each agent was last told something new, since `forget`."""
        return [float(at) for answer in self.ask("receipts") for at in answer["times"]]
