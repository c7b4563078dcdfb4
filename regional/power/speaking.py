"""The process that speaks with one BMC: a word on standard input, its answer on standard output, a JSON line each.

The libraries for BMCs block, keep global state and wait as long as a BMC drips bytes; a thread with such a BMC could
not be ended, a process can. Invariant: the first line is the BMC with its password, which is in no argument and no
environment; the process ends with its input, with a word that takes too long, and with too much memory.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from regional.power import WORD_SECONDS

# Longer than its parent waits, so that it is the parent who ends it while there is one.
_LONGEST_SECONDS = int(WORD_SECONDS) + 15
# sushy takes 33 MB, pyghmi 38 MB (resident); the rest is for what a BMC makes us read.
_MOST_BYTES = 1 << 30


class Answered(Exception):
    """What the parent makes a failure of: `kind` is a key of `children.FAILURES`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class Words(Protocol):
    """Blocking; each raises `Answered`. Who is made of the first line speaks with the BMC at its first word."""

    def state(self) -> str: ...

    def turn(self, how: str) -> None: ...

    def boot_from_network_once(self, *, uefi: bool, http: bool) -> None: ...

    def close(self) -> None: ...


def serve(make: Callable[[Mapping[str, Any]], Words]) -> None:
    """Until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    # What the libraries print is not an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(2, 1)
    answers.write("{}\n")  # it is here
    answers.flush()
    words: Words | None = None
    for line in sys.stdin:
        signal.alarm(_LONGEST_SECONDS)
        asked = json.loads(line)
        if words is None:
            words = make(asked)
        else:
            _answer(answers, words, asked)
        signal.alarm(0)
    if words is not None:
        signal.alarm(5)
        words.close()
    # pyghmi has a thread that would wait for packets.
    os._exit(0)


def _answer(answers: TextIO, words: Words, asked: Mapping[str, Any]) -> None:
    try:
        said: dict[str, Any] = {"said": _carry_out(words, asked)}
    except Answered as failure:
        said = {"failure": failure.kind, "detail": failure.detail}
    except Exception as failure:
        # A BMC that says what the library does not expect: it raises whatever it stumbles over.
        said = {
            "failure": "refused",
            "detail": f"its answer makes no sense ({type(failure).__name__}: {failure})"[:500],
        }
    answers.write(json.dumps(said) + "\n")
    answers.flush()


def _carry_out(words: Words, asked: Mapping[str, Any]) -> str | None:
    match asked["word"]:
        case "state":
            return words.state()
        case "turn":
            words.turn(asked["how"])
        case "boot":
            words.boot_from_network_once(uefi=asked["uefi"], http=asked["http"])
    return None
