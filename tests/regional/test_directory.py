"""The content directory, where two of its users meet."""

import threading
from pathlib import Path

import pytest

from common.digest import Digest
from regional.directory import ContentDirectory

DATA = b"layer" * 100
DIGEST = Digest.of(DATA)


def test_a_content_that_is_published_while_it_is_opened_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = ContentDirectory(tmp_path)
    directory.prepare()
    directory.reserve(DIGEST, len(DATA))
    directory.partial_path(DIGEST).write_bytes(DATA)
    opened = Path.open

    def publish_between_the_looks(path: Path, *arguments: object, **options: object) -> object:
        try:
            return opened(path, *arguments, **options)  # type: ignore[arg-type]
        finally:
            # The first look was for the held content and found nothing: now another thread publishes it.
            if path == directory.content_path(DIGEST) and directory.partial_path(DIGEST).exists():
                publisher = threading.Thread(target=directory.publish, args=(DIGEST,))
                publisher.start()
                publisher.join()

    monkeypatch.setattr(Path, "open", publish_between_the_looks)
    file = directory.open(DIGEST)
    assert file is not None
    with file:
        assert file.read() == DATA


def test_a_content_that_is_nowhere_is_none(tmp_path: Path) -> None:
    assert ContentDirectory(tmp_path).open(DIGEST) is None
