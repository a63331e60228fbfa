"""Where everything lies in a store: keys of what there is, and back. No I/O.

data/ab/<digest>/data.<ext>      the stored bytes, named by their SHA-256
data/ab/<digest>/metadata.json   what the first who stored them said of them
data/ab/<digest>/touched         renewed by who relies on bytes that have lain there for long
data/ab/<digest>/condemned.<id>  set by a garbage collection before it removes them
manifests/<run>.json             runs; each is there from the moment its manifest is
runs/by_…/<name>/<run>.json      pointers, which show where to look and mean nothing without the manifest
models/<stage>/<name>/<version>.json
asyncfetch-store.json            the layout's version, and where data lies
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from asyncfetch.datastore.digests import is_digest
from asyncfetch.datastore.errors import InvalidName

LAYOUT = 1
MARKER = "asyncfetch-store.json"
MANIFESTS, POINTERS, MODELS = "manifests/", "runs/", "models/"
METADATA, TOUCHED = "metadata.json", "touched"

_LONGEST = 200  # bytes of a name in a key: a file's name has at most 255, and something stands behind it
_EXTENSION = re.compile(r"[a-z0-9]{1,16}\Z")
_CONDEMNED = re.compile(r"condemned\.[0-9a-f]{16}\Z")


class DataKey(NamedTuple):
    """What a key below the data's prefix says."""

    digest: str
    name: str  # data.<ext>, metadata.json, touched or condemned.<id>

    @property
    def extension(self) -> str | None:
        """That of the data, None for what lies beside it."""
        stem, _, extension = self.name.partition(".")
        return extension if stem == "data" else None

    @property
    def condemns(self) -> bool:
        """Whether it is the mark of a garbage collection."""
        return _CONDEMNED.match(self.name) is not None


def data_folder(digest: str) -> str:
    """Where all that belongs to a digest lies, below the data's prefix."""
    return f"{digest[:2]}/{digest}/"


def data_key(digest: str, extension: str) -> str:
    """Where stored bytes lie, below the data's prefix."""
    return f"{data_folder(digest)}data.{extension}"


def mark_key(digest: str, collection: str) -> str:
    """Where a collection, named by 16 hexadecimal digits, leaves its mark, below the data's prefix."""
    return f"{data_folder(digest)}condemned.{collection}"


def read_data_key(key: str) -> DataKey | None:
    """Takes apart a key below the data's prefix; None for a stranger's."""
    head, _, rest = key.partition("/")
    digest, _, name = rest.partition("/")
    if not is_digest(digest) or head != digest[:2]:
        return None
    if name in (METADATA, TOUCHED) or _CONDEMNED.match(name):
        return DataKey(digest, name)
    stem, dot, extension = name.partition(".")
    return DataKey(digest, name) if stem == "data" and dot and is_extension(extension) else None


def is_extension(text: str) -> bool:
    """Whether a text can be the extension of stored bytes."""
    return _EXTENSION.match(text) is not None


def plain_extension(suffix: str) -> str:
    """The extension for a file whose name ends so; `bin` where that is none that every system takes."""
    extension = suffix.removeprefix(".").lower()
    return extension if is_extension(extension) else "bin"


def escape(name: str, what: str) -> str:
    """A name as one part of a key, from which `unescape` gives it back, so that no two names are one.

    Letters, digits and `_.-~` stay, everything else is percent-encoded (RFC 3986, section 2.1), a first dot too.
    Raises `InvalidName` for an empty name, one that is not Unicode, and one that takes more than 200 bytes so.
    """
    if not isinstance(name, str) or not name:
        raise InvalidName(f"{what} must have a name, as text, not {name!r}")
    try:
        escaped = quote(name, safe="")
    except UnicodeEncodeError:
        raise InvalidName(f"{what} {name!a} is not valid Unicode") from None
    if escaped.startswith("."):  # . and .. are directories, and .name is hidden
        escaped = "%2E" + escaped[1:]
    if len(escaped) > _LONGEST:
        raise InvalidName(f"{what} {name[:40]!r}… takes {len(escaped)} bytes in a key; at most {_LONGEST} are allowed")
    return escaped


def unescape(part: str) -> str:
    """The name that `escape` made a part of."""
    return unquote(part)


def manifest_key(run_id: str) -> str:
    """Where the manifest of a run lies."""
    return f"{MANIFESTS}{escape(run_id, 'a run')}.json"


def pointer_prefix(by: str, *names: str) -> str:
    """Where the pointers of a group of runs lie: `by` is `project`, `date`, `type` or `model`."""
    return f"{POINTERS}by_{by}/" + "".join(f"{escape(name, f'a {by}')}/" for name in names)


def pointed_run(key: str) -> str:
    """The run that a pointer, or a manifest's key, is of."""
    return unescape(key.rpartition("/")[2].removesuffix(".json"))


def model_prefix(stage: str, name: str | None = None) -> str:
    """Where the records of a stage's models, or of one of them, lie."""
    return f"{MODELS}{stage}/" + ("" if name is None else f"{escape(name, 'a model')}/")


def model_key(stage: str, name: str, version: str) -> str:
    """Where the record of a model's version lies."""
    return f"{model_prefix(stage, name)}{escape(version, 'a version')}.json"
