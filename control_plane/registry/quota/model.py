"""The things of quota; pure. Sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Whose account; the order of the words is the order in which accounts are locked."""

    TENANT = "tenant"
    USER = "user"


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Who has an account. `subject_id` is the tenant's or the user's id."""

    kind: Kind
    subject_id: str


@dataclass(frozen=True, slots=True)
class Limits:
    """None is no limit."""

    storage_bytes: int | None = None
    images: int | None = None
    image_bytes: int | None = None

    @property
    def any(self) -> bool:
        return self != Limits()


@dataclass(frozen=True, slots=True)
class Defaults:
    """The limits of those who were given none of their own."""

    tenant: Limits = Limits()
    user: Limits = Limits()

    def of(self, kind: Kind) -> Limits:
        return self.tenant if kind is Kind.TENANT else self.user


@dataclass(frozen=True, slots=True)
class Account:
    """`limits` are those in force; `own` tells whether they were given to this subject. `warned_percent` is the last
    warning that was announced and has not been overtaken by deletions.
    """

    subject: Subject
    limits: Limits
    own: bool = False
    used_bytes: int = 0
    reserved_bytes: int = 0
    images: int = 0
    warned_percent: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction does to an account. `largest_image` is the size of the largest image that it adds."""

    used_bytes: int = 0
    reserved_bytes: int = 0
    images: int = 0
    largest_image: int = 0

    @property
    def any(self) -> bool:
        return self != Change()

    def __add__(self, other: Change) -> Change:
        return Change(
            self.used_bytes + other.used_bytes,
            self.reserved_bytes + other.reserved_bytes,
            self.images + other.images,
            max(self.largest_image, other.largest_image),
        )


@dataclass(frozen=True, slots=True)
class Truth:
    """What the registry's tables add up to for a subject."""

    used_bytes: int
    reserved_bytes: int
    images: int


@dataclass(frozen=True, slots=True)
class Drift:
    """Recorded minus true. All zero unless there is a mistake in the program."""

    subject: Subject
    used_bytes: int
    reserved_bytes: int
    images: int
    charges: int = 0

    @property
    def any(self) -> bool:
        return bool(self.used_bytes or self.reserved_bytes or self.images or self.charges)


def subjects_of(tenant_id: str, user_id: str) -> tuple[Subject, ...]:
    """In the order of locking. What nobody did (a periodic job, a mirror) is the tenant's alone."""
    tenant = Subject(Kind.TENANT, tenant_id)
    return (tenant, Subject(Kind.USER, user_id)) if user_id else (tenant,)
