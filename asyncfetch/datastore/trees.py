"""A directory as a document of references: what is in it, and how it is laid out again.

The document is canonical JSON, so that equal directories have one digest: of each file its path, digest and size and
whether it may be executed, of each link its target, and the directories that are empty. Dates, owners and other
permissions are not kept, for they are of a machine.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncfetch.datastore.canonical import encode_json
from asyncfetch.datastore.digests import is_digest
from asyncfetch.datastore.errors import DocumentDamaged, NotStorable
from asyncfetch.datastore.layout import plain_extension
from asyncfetch.datastore.references import DataReference

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTENSION = "tree"

_DEPTH = 100  # directories in directories


class Found(NamedTuple):
    """What a directory holds, by paths with `/` that are relative to it."""

    files: dict[str, bool]  # whether each may be executed
    links: dict[str, str]
    empty: list[str]


class TreeFile(NamedTuple):
    """A file of a stored directory."""

    path: str
    reference: DataReference
    executable: bool


class Tree(NamedTuple):
    """A stored directory."""

    files: list[TreeFile]
    links: dict[str, str]
    empty: list[str]


def scan(root: Path) -> Found:
    """Looks through a directory, without following links. Blocks.

    Raises `NotStorable` for what cannot be laid out again elsewhere: sockets, pipes and devices, names that are not
    Unicode, links that lead out of the directory. Raises `OSError` for what cannot be read.
    """
    found = Found({}, {}, [])
    for path, entry in _walk(root, ""):
        if entry is None:
            found.empty.append(path)
        elif entry.is_symlink():
            found.links[path] = _target(root, path, os.readlink(entry.path))  # noqa: PTH115 (an entry)
        else:
            mode = entry.stat(follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                raise NotStorable(f"{entry.path} is neither file, directory nor link")
            found.files[path] = bool(mode & stat.S_IXUSR)
    return found


def encode_tree(found: Found, references: dict[str, DataReference]) -> bytes:
    """The document of a directory, whose files are stored as these references."""
    files = {}
    for path, executable in found.files.items():
        reference = references[path]
        files[path] = {
            "digest": f"sha256:{reference.digest}",
            "size": reference.size,
            "extension": reference.extension,
            **({"executable": True} if executable else {}),
        }
    return encode_json({"layout": 1, "files": files, "links": found.links, "empty": sorted(found.empty)})


def decode_tree(told: Any, uri: str) -> Tree:
    """Reads the document of a directory.

    Raises `DocumentDamaged` for what is none, and for paths and links that would lead out of where it is laid out.
    """
    try:
        if told["layout"] != 1:
            raise DocumentDamaged(uri, f"it describes a directory in layout {told['layout']!r}, which is not known")
        files = [_read_file(path, file, uri) for path, file in sorted(told["files"].items())]
        links, empty = dict(told["links"]), list(told["empty"])
    except (TypeError, KeyError, AttributeError):
        raise DocumentDamaged(uri, "it is no description of a directory") from None
    for path in [*(file.path for file in files), *links, *empty]:
        if not _stays(path):
            raise DocumentDamaged(uri, f"the path {path!r} leads out of the directory")
    for path, target in links.items():
        if not isinstance(target, str) or not _stays(_joined(path, target)):
            raise DocumentDamaged(uri, f"the link {path!r} leads out of the directory")
    # What lies behind a link would be written where the link leads.
    for path in [*(file.path for file in files), *links, *empty]:
        if any(str(parent) in links for parent in PurePosixPath(path).parents):
            raise DocumentDamaged(uri, f"the path {path!r} leads through a link")
    return Tree(files, links, empty)


def lay_out(tree: Tree, root: Path) -> None:
    """Makes the directories and links of a tree below a directory, which must be empty or new. Blocks."""
    root.mkdir(parents=True, exist_ok=True)
    for path in {str(PurePosixPath(file.path).parent) for file in tree.files} | set(tree.empty):
        (root / path).mkdir(parents=True, exist_ok=True)
    for path, target in tree.links.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)


def _walk(root: Path, below: str) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """What is in a directory, in the order of names; an empty directory, that is not the root, with None."""
    if below.count("/") > _DEPTH:
        raise NotStorable(f"{root} holds directories more than {_DEPTH} deep")
    with os.scandir(root / below) as scanning:
        entries = sorted(scanning, key=lambda entry: entry.name)
    if not entries and below:
        yield below.rstrip("/"), None
    for entry in entries:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise NotStorable(f"The name {entry.path!a} is not valid Unicode", remedy="Rename it.") from None
        path = below + entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, f"{path}/")
        else:
            yield path, entry


def _target(root: Path, path: str, target: str) -> str:
    if not _stays(_joined(path, target)):
        raise NotStorable(
            f"The link {root / path} leads to {target!r}, which is not inside of the directory",
            remedy="Put a copy in its place.",
        )
    return target


def _joined(path: str, target: str) -> str:
    return str(PurePosixPath(path).parent / target)


def _stays(path: object) -> bool:
    """Whether a relative path names something below where it starts, wherever on its way it goes up and down."""
    if not isinstance(path, str) or not path or "\0" in path or path.startswith("/"):
        return False
    depth = 0
    for part in path.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return False
    return True


def _read_file(path: str, told: Any, uri: str) -> TreeFile:
    digest, size = told["digest"].removeprefix("sha256:"), told["size"]
    extension = told["extension"]
    if not is_digest(digest) or type(size) is not int or size < 0 or extension != plain_extension(extension):
        raise DocumentDamaged(uri, f"what it says of {path!r} is no reference to data")
    return TreeFile(path, DataReference(digest, size, "file", extension, name=path), told.get("executable") is True)
