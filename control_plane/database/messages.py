"""What a domain announces: facts in the past tense, frozen, made of JSON values. Each domain's `messages.py`
subclasses `Message`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Message:
    """`topic` is stable: `<domain>.<fact>`, for example `registry.image_pushed`. Subscribers get the JSON form and
    know the topic.
    """

    topic: ClassVar[str] = ""

    def payload(self) -> dict[str, Any]:
        # Not `asdict`: it copies JSON values for nothing, and an announcement may name 10,000 hosts.
        return {field.name: getattr(self, field.name) for field in fields(self)}
