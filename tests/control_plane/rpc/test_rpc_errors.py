"""Failures across gRPC: one row for each class, and the same failure on the other side."""

from __future__ import annotations

import importlib
import pkgutil

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import control_plane
from common.errors import Failure, Internal, Invalid, RateLimited, Unavailable
from common.rpc_failures import FAILURE_TRAILER, failure_of, kind_of, pack, unpack
from control_plane.fleet.session import IdentityInUse
from control_plane.rpc.errors import STATUS, status_of


def every_failure() -> list[type[Failure]]:
    for module in pkgutil.walk_packages(control_plane.__path__, "control_plane."):
        if ".migrations" not in module.name and ".cli" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[Failure]] = []
    pending = list(Failure.__subclasses__())
    while pending:
        kind = pending.pop()
        found.append(kind)
        pending.extend(kind.__subclasses__())
    ours = ("common.", "control_plane.")
    return [
        kind
        for kind in found
        if kind.__module__.startswith(ours)
        and ".cli." not in kind.__module__  # never served
        and not kind.__name__.startswith("_")
    ]


def error_of(status: grpc.StatusCode, details: str = "", trailer: bytes | None = None) -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata(*([] if trailer is None else [(FAILURE_TRAILER, trailer)]))
    return grpc.aio.AioRpcError(status, grpc.aio.Metadata(), trailers, details)


def test_every_failure_has_a_status_and_is_rebuilt_on_the_other_side() -> None:
    kinds = every_failure()
    assert len(kinds) > 30
    for kind in kinds:
        assert any(ancestor in STATUS for ancestor in kind.__mro__), kind
        failure = kind.__new__(kind)
        Failure.__init__(failure, "what happened", action="what to do")  # some words are made by the class itself
        rebuilt = failure_of(error_of(status_of(kind), "text", pack(failure)), "calling")
        assert type(rebuilt) is kind_of(failure), kind
        assert (rebuilt.code, rebuilt.detail, rebuilt.action) == (kind.code, "what happened", "what to do")


def test_every_row_is_understood_without_its_trailer() -> None:
    for kind, status in STATUS.items():
        rebuilt = failure_of(error_of(status, "a proxy said no"), "calling plane:1")
        assert status_of(type(rebuilt)) == status, kind
        assert "calling plane:1 failed: a proxy said no" in rebuilt.detail


def test_a_call_that_ended_under_a_write_is_unavailable_whatever_grpc_calls_it() -> None:
    failure = failure_of(error_of(grpc.StatusCode.INTERNAL, "Internal error from Core"), "the attachment to plane:1")
    assert type(failure) is Unavailable
    assert failure.detail == "the attachment to plane:1 failed: the peer ended the call while we wrote to it"


def test_a_bare_failure_is_internal() -> None:
    assert status_of(Failure) is grpc.StatusCode.INTERNAL


def test_facts_and_delays_arrive() -> None:
    sent = RateLimited("slow down", retry_after_seconds=7.5, tenant="acme")

    rebuilt = failure_of(error_of(status_of(sent), "", pack(sent)), "calling")

    assert isinstance(rebuilt, RateLimited)
    assert (rebuilt.retry_after_seconds, rebuilt.facts) == (7.5, {"tenant": "acme"})
    assert status_of(IdentityInUse) is grpc.StatusCode.FAILED_PRECONDITION


@given(st.binary(max_size=200))
def test_a_broken_trailer_is_ignored(trailer: bytes) -> None:
    rebuilt = failure_of(error_of(grpc.StatusCode.UNAVAILABLE, "away", trailer), "calling")

    assert isinstance(rebuilt, Unavailable)


@pytest.mark.parametrize("trailer", [b"null", b"{}", b'{"kind": "Invalid", "facts": 3}', b"[1]"])
def test_a_trailer_of_another_shape_is_ignored(trailer: bytes) -> None:
    assert unpack(trailer, grpc.StatusCode.INTERNAL) is None


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_any_text_passes_within_the_limit_of_metadata(detail: str, action: str) -> None:
    packed = pack(Invalid(detail, action=action))

    rebuilt = unpack(packed, grpc.StatusCode.INVALID_ARGUMENT)

    assert rebuilt is not None
    assert rebuilt.detail == detail[:1500]


def test_an_unknown_status_is_internal() -> None:
    assert isinstance(failure_of(error_of(grpc.StatusCode.DATA_LOSS), "calling"), Internal)
