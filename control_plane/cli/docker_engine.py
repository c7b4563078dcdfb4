"""The local Docker engine as a place where images lie; only `image push NAME` needs it and its SDK."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from common.errors import NotFound, Unavailable

try:
    import docker
    from docker.errors import DockerException, ImageNotFound
except ImportError:  # the extra "docker" is not installed
    docker = None  # type: ignore[assignment]


def save_image(name: str, target: Path) -> None:
    """Write the image as a docker archive. Raises `NotFound`, or `Unavailable` where no engine answers."""
    if docker is None:
        raise Unavailable("the Docker SDK is not installed", action="install longshore[docker], or push an archive")
    try:
        with closing(docker.from_env()) as client, target.open("wb") as file:
            for chunk in client.images.get(name).save(chunk_size=1 << 20, named=True):
                file.write(chunk)
    except ImageNotFound as error:
        raise NotFound(
            f"there is no file {name!r} and no image of that name in the Docker engine",
            action="check the name with `docker image ls`",
        ) from error
    except DockerException as error:
        raise Unavailable(
            f"the Docker engine does not answer: {error}", action="start it, or push an archive"
        ) from error
