"""The names that clients know their uploads by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.registry.model import Upload
from control_plane.registry.upload_names import UploadNames

UPLOAD = Upload("019b76da-a800-7a32-a2ba-d459e5b7151c", "acme/web", "t-acme", "u-ada")
OLD, NEW = b"o" * 32, b"n" * 32


def test_a_name_leads_its_owner_to_the_upload() -> None:
    names = UploadNames([NEW])
    assert names.upload(names.name(UPLOAD), "acme/web", "t-acme", "u-ada") == UPLOAD


@pytest.mark.parametrize(
    "whose",
    [("acme/other", "t-acme", "u-ada"), ("acme/web", "t-second", "u-ada"), ("acme/web", "t-acme", "u-eve")],
    ids=["another repository", "a later tenant of that name", "another user"],
)
def test_to_everybody_else_there_is_no_such_upload(whose: tuple[str, str, str]) -> None:
    names = UploadNames([NEW])
    assert names.upload(names.name(UPLOAD), *whose) is None


@pytest.mark.parametrize("seal", ["", ".", ".0" * 32, "." + "0" * 32, ".ü", "." + "0" * 31 + "\ud800"])
def test_an_id_without_its_seal_is_nobodys(seal: str) -> None:
    assert UploadNames([NEW]).upload(UPLOAD.upload_id + seal, "acme/web", "t-acme", "u-ada") is None


@pytest.mark.parametrize("upload_id", ["", "..", "../../etc/passwd", UPLOAD.upload_id.upper()])
def test_what_is_no_id_is_never_asked_of_the_store(upload_id: str) -> None:
    names = UploadNames([NEW])
    forged = names.name(replace(UPLOAD, upload_id=upload_id))
    assert names.upload(forged, "acme/web", "t-acme", "u-ada") is None


def test_names_made_under_an_older_key_are_taken() -> None:
    name = UploadNames([OLD]).name(UPLOAD)
    assert UploadNames([NEW, OLD]).upload(name, "acme/web", "t-acme", "u-ada") == UPLOAD
    assert UploadNames([NEW]).upload(name, "acme/web", "t-acme", "u-ada") is None
