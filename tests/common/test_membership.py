from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from common.clock import SystemClock
from common.membership import Applicant, IdentityForeign, NotEnrolled, identity_of
from common.tls import Identity, Name
from tests.regional.certificates import Authority

NAME = Name("east", "regional", "r1")


def applicant(directory: Path) -> Applicant:
    return Applicant("regional", "r1", "http://127.0.0.1:1", directory, lambda: None, "1.0", idc="east")


async def found(who: Applicant) -> Identity:
    async with aiohttp.ClientSession() as http:
        return await identity_of(who, http, SystemClock(), random.random)


async def test_an_identity_is_used_without_the_control_plane(tmp_path: Path) -> None:
    who = applicant(Authority().saved(NAME, tmp_path))
    assert (await found(who)).name == NAME


async def test_without_identity_and_token_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotEnrolled, match="join token for a regional of east"):
        await found(applicant(tmp_path / "identity"))


async def test_the_identity_of_somebody_else_is_refused(tmp_path: Path) -> None:
    who = applicant(Authority().saved(NAME, tmp_path))
    with pytest.raises(IdentityForeign, match="not a regional of west"):
        await found(replace(who, idc="west"))
    with pytest.raises(IdentityForeign, match="not a host"):
        await found(replace(who, kind="host", idc=None))
