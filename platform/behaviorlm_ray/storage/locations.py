"""Where things are kept: a local path, or a place below a bucket that can be written in the same way."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from behaviorlm.errors import ConfigError
from behaviorlm.files.patient_reads import PATIENCE_SECONDS, patience_here

BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class FileDigest:
    """What a file holds: its size in bytes and the SHA-256 of its content, as hexadecimal digits."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class S3Location:
    """An object, or everything below a prefix, in a bucket. Used like a path: `/`, `name`, `parent`; picklable.

    patience_seconds: how long an operation is tried again; digests: what is known of the files here, by relative path
    ("" for the object itself), which readers then hold what they get against; None: nothing.
    """

    bucket: str
    key: str
    patience_seconds: float = field(default=PATIENCE_SECONDS, compare=False, repr=False)
    digests: Mapping[str, FileDigest] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"

    def __truediv__(self, relative: str) -> "S3Location":
        digests = None
        if self.digests is not None:
            below = f"{relative}/"
            digests = {
                path.removeprefix(relative).lstrip("/"): digest
                for path, digest in self.digests.items()
                if path == relative or path.startswith(below)
            }
        key = f"{self.key}/{relative}" if self.key else relative
        return S3Location(self.bucket, key, self.patience_seconds, digests)

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "S3Location":
        """The place above; of the bucket, the bucket itself."""
        return S3Location(self.bucket, self.key.rpartition("/")[0], self.patience_seconds)

    @property
    def parents(self) -> list["S3Location"]:
        """The places above, the nearest first, the bucket last."""
        above = [self.parent]
        while above[-1].key:
            above.append(above[-1].parent)
        return above


class RemoteLocation(Protocol):
    """What the place of a storage that is not this machine's own looks like: `S3Location` is one."""

    @property
    def name(self) -> str:
        """The last part."""

    @property
    def parent(self) -> Self:
        """The place above."""

    @property
    def parents(self) -> Sequence[Self]:
        """The places above, the nearest first."""

    def __truediv__(self, relative: str, /) -> Self:
        """A place below."""


Location = Path | RemoteLocation
"""A file or folder. Locally a plain path: nothing is copied, libraries write and map the files where they lie."""


def location(text: str, patience_seconds: float | None = None) -> Location:
    """The place that a configuration names: a folder, made absolute, or s3://bucket/prefix. Raises ConfigError.

    patience_seconds: None for those of the block, see `patient_reads.patience`.
    """
    if "://" not in text:
        return Path(text).expanduser().absolute()
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3":
        raise ConfigError(
            f"{text!r}: there is no storage of kind {scheme!r}; give a folder or s3://bucket/prefix"
        )
    if not BUCKET_NAME.fullmatch(bucket):
        raise ConfigError(
            f"{text!r}: {bucket!r} is no name of a bucket (3 to 63 lower case letters, digits, '-' and '.')"
        )
    parts = key.strip("/").split("/")
    if key.strip("/") and any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"{text!r}: a prefix has no empty parts and no '.' or '..'")
    return S3Location(
        bucket, key.strip("/"), patience_here() if patience_seconds is None else patience_seconds
    )
