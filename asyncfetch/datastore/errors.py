"""What can go wrong in a store beside what goes wrong with any object of S3."""

from __future__ import annotations

from asyncfetch.errors import AsyncfetchError, UsageError


class InvalidDigest(UsageError):
    """Raised when a text is no digest of SHA-256: 64 hexadecimal digits, with or without `sha256:` before them."""

    def __init__(self, given: object) -> None:
        detail = f"{len(given)} characters" if isinstance(given, str) else type(given).__name__
        super().__init__(
            f"{given!r} ({detail}) is no digest", remedy="A digest is the 64 hexadecimal digits of a SHA-256."
        )


class InvalidName(UsageError):
    """Raised when a run, project, type or model has a name that no key can be made of: empty, or too long."""


class NotStorable(UsageError, TypeError):
    """Raised when an object would not come back from a store as it was; nothing of it was sent.

    The message says which part of it and why: an array or a column of Python objects, a tuple or a NaN in JSON, a
    socket in a directory.
    """


class DataStoreError(AsyncfetchError):
    """Base of errors of what a store holds."""


class NewerLayout(DataStoreError):
    """Raised when a store, or a document in it, was written in a layout that this version does not know."""

    hint = "Upgrade asyncfetch."

    def __init__(self, uri: str, layout: object, known: int) -> None:
        super().__init__(f"{uri}: it is of layout {layout!r}, and this version knows {known}")


class DocumentDamaged(DataStoreError, ValueError):
    """Raised when a manifest, a model's record or another document of a store cannot be read as what it should be."""

    def __init__(self, uri: str, detail: str) -> None:
        super().__init__(f"{uri}: {detail}")


class StoreNotFound(DataStoreError, FileNotFoundError):
    """Raised when a store that must exist does not: where it should be nobody has stored anything yet."""

    hint = "Look how it is spelt; what is stored there first makes one."

    def __init__(self, uri: str) -> None:
        super().__init__(f"{uri}: there is no store")


class DataNotFound(DataStoreError, FileNotFoundError):
    """Raised when a store has no data of a digest: never stored, removed, or a manifest's whose data is gone."""


class DataDamaged(DataStoreError, ValueError):
    """Raised when bytes that were read do not have the digest that they lie under, also when read from S3 anew."""


class SourceChanged(DataStoreError, OSError):
    """Raised when a file was written while it was being stored; nothing that is not whole was published."""

    hint = "Store it when nobody writes it."


class RunExists(DataStoreError, FileExistsError):
    """Raised when a run id has been used for a run that is not equal."""

    hint = "Give each run an id of its own; delete_run removes one."


class RunNotFound(DataStoreError, FileNotFoundError):
    """Raised when there is no run of an id."""


class ModelExists(DataStoreError, FileExistsError):
    """Raised when a version of a model is there already and is not equal to what is to be registered."""


class ModelNotFound(DataStoreError, FileNotFoundError):
    """Raised when there is no such model, or no such version of it, or none in that stage."""


class MigrationIncomplete(DataStoreError):
    """Raised when something could not be copied or did not verify at the target; the source was left as it is."""

    hint = "Run the migration again: what has been copied is not sent again."
