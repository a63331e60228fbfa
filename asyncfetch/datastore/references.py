"""What names data in a store, and what a store says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from asyncfetch.datastore.digests import is_digest
from asyncfetch.datastore.errors import DocumentDamaged
from asyncfetch.datastore.layout import data_key, is_extension

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Kind = Literal["dataframe", "table", "array", "json", "bytes", "file", "directory"]


@dataclass(frozen=True, slots=True)
class DataReference:
    """Names stored data: the SHA-256 of its bytes, how many there are, and what they come back as.

    `kind` is one of `"dataframe"` (pandas), `"table"` (Arrow), `"array"`, `"json"`, `"bytes"`, `"file"` and
    `"directory"`; `extension` is that of the object. `name` and `metadata` are what who made the reference said, and
    are no part of what is compared. It can be pickled, and `to_json` and `from_json` take it through JSON.
    """

    digest: str
    size: int
    kind: Kind
    extension: str
    name: str | None = field(default=None, compare=False)
    metadata: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """Where the bytes lie, below the prefix of the store's data."""
        return data_key(self.digest, self.extension)

    def to_json(self) -> dict[str, Any]:
        """As a document of JSON."""
        told: dict[str, Any] = {
            "digest": f"sha256:{self.digest}",
            "size": self.size,
            "kind": self.kind,
            "extension": self.extension,
        }
        if self.name is not None:
            told["name"] = self.name
        if self.metadata is not None:
            told["metadata"] = dict(self.metadata)
        return told

    @classmethod
    def from_json(cls, told: object, *, uri: str = "a reference") -> DataReference:
        """Reads what `to_json` wrote. Raises `DocumentDamaged`, which names `uri`, for anything else."""
        match told:
            case {"digest": str(digest), "size": int(size), "kind": str(kind), "extension": str(extension), **rest} if (
                is_digest(digest.removeprefix("sha256:"))
                and size >= 0
                and kind in get_args(Kind)
                and is_extension(extension)
            ):
                name, said = rest.get("name"), rest.get("metadata")
                if isinstance(name, str | None) and isinstance(said, dict | None):
                    # The kind is one of them.
                    return cls(digest.removeprefix("sha256:"), size, cast("Kind", kind), extension, name, said)
        raise DocumentDamaged(uri, "it holds what is no reference to data")


@dataclass(frozen=True, slots=True)
class StoredData:
    """What a store says of data that it has: the reference by which the first stored it, where, and since when.

    `used` is when somebody last stored or relied on it, aware, in UTC, by the server's clock.
    """

    reference: DataReference
    uri: str
    used: datetime | None

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes."""
        return self.reference.digest

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self.reference.size
