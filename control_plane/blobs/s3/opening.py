"""The S3 store that the settings describe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common.clock import Clock
from common.errors import Invalid
from control_plane.blobs.s3.calls import S3Options
from control_plane.blobs.s3.store import S3BlobStore
from control_plane.storage_settings import S3Settings


class SecretUnreadable(Invalid):
    code = "secret_unreadable"


def open_s3(settings: S3Settings, clock: Clock, random: Callable[[], float], spool_directory: Path) -> S3BlobStore:
    """Makes the directory; no connection yet. Raises `SecretUnreadable`."""
    spool_directory.mkdir(parents=True, exist_ok=True)
    options = S3Options(
        bucket=settings.bucket or "",
        endpoint=settings.endpoint,
        public_endpoint=settings.public_endpoint,
        region=settings.region,
        access_key_id=settings.access_key_id,
        secret_key=_secret(settings),
        addressing=settings.addressing,
        part_bytes=settings.part_mebibytes << 20,
        equal_parts=settings.equal_parts,
        connect_seconds=settings.connect_seconds,
        answer_seconds=settings.answer_seconds,
        deadline_seconds=settings.deadline_seconds,
    )
    return S3BlobStore(options, clock, random, spool_directory=spool_directory)


def _secret(settings: S3Settings) -> str | None:
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value()
    if settings.secret_key_file is None:
        return None
    try:
        return settings.secret_key_file.read_text().strip()
    except (OSError, ValueError) as error:
        raise SecretUnreadable(
            f"{settings.secret_key_file} cannot be read: {error}", action="correct blobs.s3.secret_key_file"
        ) from error
