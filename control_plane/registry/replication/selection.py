"""What a rule copies, and what that is called at the destination; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.reference import NameInvalid, check_repository_name
from control_plane.registry.manifests import ParsedManifest
from control_plane.registry.patterns import compile_patterns
from control_plane.registry.replication.failures import RuleInvalid

ALL = -1
_LITERAL = re.compile(r"[^*?\[\]]*")
# Config types of what container runtimes run; everything else is an artifact.
_IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)


@dataclass(frozen=True, slots=True)
class Filter:
    """What is copied. `kinds`: "image", "artifact"; `platforms` ("linux/arm64"): of an index only these images, empty
    for all; `annotations`: what the manifest must say.
    """

    repositories: tuple[str, ...]
    tags: tuple[str, ...] = ("*",)
    kinds: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    def takes_name(self, repository: str) -> bool:
        return compile_patterns(self.repositories).match(repository)

    def takes_tag(self, tag: str) -> bool:
        return compile_patterns(self.tags).match(tag)

    def takes(self, parsed: ParsedManifest) -> bool:
        if self.kinds and kind_of(parsed) not in self.kinds:
            return False
        return all(parsed.annotations.get(key) == value for key, value in self.annotations.items())

    def takes_platform(self, operating_system: str, architecture: str, variant: str) -> bool:
        if not self.platforms or operating_system == "unknown":  # attestations of builds: they belong to all
            return True
        plain = f"{operating_system}/{architecture}"
        return plain in self.platforms or f"{plain}/{variant}" in self.platforms

    @property
    def literal_names(self) -> tuple[str, ...] | None:
        """The repositories, if no pattern has a wildcard."""
        if all(_LITERAL.fullmatch(text) for text in self.repositories):
            return self.repositories
        return None


@dataclass(frozen=True, slots=True)
class Naming:
    """What a repository is called at the destination: its first `strip` components are left out (`ALL`: all but the
    last one), then `namespace` is put in front.
    """

    namespace: str = ""
    strip: int = 0

    def of(self, repository: str) -> str:
        """Raises `RuleInvalid` if nothing of a name is left."""
        parts = repository.split("/")
        kept = parts[-1:] if self.strip == ALL else parts[self.strip :]
        name = "/".join(part for part in (self.namespace, *kept) if part)
        try:
            return check_any_name(name)
        except NameInvalid as error:
            raise RuleInvalid(
                f"{repository} cannot be named {name!r} at the destination", action="change the namespace or strip less"
            ) from error


def check_any_name(name: str) -> str:
    """Of a repository anywhere: other registries have names of one component. Raises `NameInvalid`."""
    check_repository_name(name if "/" in name else f"any/{name}")
    return name


def kind_of(parsed: ParsedManifest) -> str:
    if parsed.is_index:
        return "artifact" if parsed.artifact_type else "image"
    return "image" if parsed.artifact_type in _IMAGE_CONFIGS else "artifact"
