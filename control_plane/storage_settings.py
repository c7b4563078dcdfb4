"""Where bytes are and how many copies of them: the parts of `settings` that speak of stores, and what every part is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class S3Settings(Part):
    """Blobs in a bucket instead of a directory, for any number of replicas. Without keys they are looked for where AWS
    puts them (environment, instance role).
    """

    bucket: str | None = Field(default=None, description="must exist; default: blobs are in a directory")
    endpoint: str | None = Field(default=None, description="URL of the store; default: AWS")
    public_endpoint: str | None = Field(
        default=None, description="URL by which clients reach it, where redirects lead; default: `endpoint`"
    )
    region: str = Field(default="us-east-1", description="what requests are signed for")
    access_key_id: str | None = Field(default=None, description="with it, a secret key is needed")
    secret_key: SecretStr | None = Field(default=None, description="of that access key")
    secret_key_file: Path | None = Field(default=None, description="holds the secret key")
    addressing: Literal["auto", "path", "virtual"] = Field(
        default="auto", description="where the bucket's name stands in URLs; Ceph and MinIO: path"
    )
    part_mebibytes: int = Field(default=8, ge=5, le=5120, description="of a multipart upload; they grow beyond 10 GB")
    equal_parts: bool = Field(
        default=False, description="for stores that take no parts of different sizes (R2); 10,000 are the limit then"
    )
    connect_seconds: float = Field(default=5, gt=0, le=60, description="wait for a connection")
    answer_seconds: float = Field(default=20, gt=0, le=300, description="wait for an answer")
    deadline_seconds: float = Field(default=45, gt=0, le=600, description="one call with all its repetitions")
    redirect: bool = Field(default=True, description="let clients fetch blobs from the store itself")
    redirect_seconds: int = Field(default=1200, ge=10, le=3600, description="how long such an address is valid")
    redirect_except: tuple[str, ...] = Field(
        default=(), description="patterns of repositories whose blobs are sent by us all the same (`acme/**`)"
    )


class BlobSettings(Part):
    """Replicas share one directory (a network file system with rename and fsync), or a bucket."""

    directory: Path | None = Field(default=None, description="default: `registry` in `data`")
    location: str = Field(default="", max_length=64, description="site of this store, where there are several")
    hash_cold_reads: bool = Field(
        default=True, description="hash whole blobs that come from the disk while they are sent (0.5 CPU s/GB of those)"
    )
    s3: S3Settings = S3Settings()


class StoreSettings(Part):
    """A further store, NAME: lower-case letters, digits, hyphens. The one of `blobs` is `primary`, hot."""

    tier: Literal["hot", "warm", "cold"] = Field(description="hot: read daily; warm, cold: what nobody reads")
    location: str = Field(default="", max_length=64, description="site; copies of a blob go to different ones")
    directory: Path | None = Field(default=None, description="of a store on a file system")
    s3: S3Settings = S3Settings()

    @model_validator(mode="after")
    def _is_one_store(self) -> Self:
        if (self.directory is None) == (self.s3.bucket is None):
            raise ValueError("a store has either a directory or an s3.bucket")
        return self


class PlacementSettings(Part):
    """How many copies of a blob there are (no more than there are stores), where, and how often each is verified."""

    copies: int = Field(default=2, ge=1, le=16, description="of a blob of private repositories only")
    public_copies: int = Field(default=3, ge=1, le=16, description="of a blob of a public repository")
    warm_days: float = Field(default=7, gt=0, description="since the last reading, until a blob is warm")
    cold_days: float = Field(default=90, gt=0, description="since the last reading, until a blob is cold")
    settle_hours: float = Field(default=24, ge=0, description="a copy stays at least so long after it came")
    reserve_mebibytes: int = Field(default=1024, ge=0, description="kept free in a store; copies go elsewhere")
    mebibytes_per_second: int = Field(default=100, ge=1, description="most that one process copies between stores")
    scrub_days: float = Field(default=7, gt=0, description="how often each copy is read, hashed, and healed if wrong")
    scrub_mebibytes_per_second: int = Field(default=50, ge=1, description="most that one process reads for that")
