"""Every failure that this service can answer with has its place in the one table."""

from __future__ import annotations

import importlib
import json
import pkgutil

from aiohttp import web

import regional
from common.byte_ranges import RangeUnsatisfiable
from common.errors import Failure, Internal, RateLimited, Unavailable
from regional.problems import problem, status_of


def every_failure() -> list[type[Failure]]:
    for module in pkgutil.iter_modules(regional.__path__):
        if module.name != "__main__":
            importlib.import_module(f"regional.{module.name}")
    found, pending = [], [Failure]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind.__module__.startswith(("regional.", "common.")) and not kind.__name__.startswith("_"):
            found.append(kind)
    return found


def test_every_failure_has_a_status_and_only_defects_are_500() -> None:
    kinds = every_failure()
    assert len(kinds) > 40
    for kind in kinds:
        answer = problem(kind("what happened"), "/path")
        assert answer.status == status_of(kind("x"))
        if answer.status == 500:
            assert issubclass(kind, Internal) or kind is Failure, kind
        body = json.loads(answer.body or b"")  # type: ignore[arg-type]
        assert (body["code"], body["instance"], body["detail"]) == (kind.code, "/path", "what happened")
        assert ("Retry-After" in answer.headers) == issubclass(kind, Unavailable | RateLimited)


def test_a_problem_says_what_to_do_and_carries_its_facts() -> None:
    answer = problem(RangeUnsatisfiable("too far", action="ask less", size=7), "/p")
    assert isinstance(answer, web.Response)
    assert answer.headers["Content-Range"] == "bytes */7"
    body = json.loads(answer.body)  # type: ignore[arg-type]
    assert (body["action"], body["size"], body["status"]) == ("ask less", 7, 416)


def test_codes_are_stable_and_their_own() -> None:
    codes = [kind.code for kind in every_failure() if kind.__module__.startswith("regional.")]
    assert len(codes) == len(set(codes)), sorted(code for code in codes if codes.count(code) > 1)
