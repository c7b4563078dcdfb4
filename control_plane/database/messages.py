"""What a domain announces: facts in the past tense, frozen, made of JSON values. Each domain's `messages.py`
subclasses `Message`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Message:
    """`topic` is stable: `<domain>.<fact>`, for example `registry.image_pushed`. Subscribers get the JSON form and
    know the topic.
    """

    topic: ClassVar[str] = ""

    def payload(self) -> dict[str, Any]:
        return asdict(self)
