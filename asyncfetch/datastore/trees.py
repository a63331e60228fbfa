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
from asyncfetch.datastore.errors import DocumentDamaged, NewerLayout, NotStorable
from asyncfetch.datastore.layout import LAYOUT, is_extension
from asyncfetch.datastore.references import DataReference

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DEPTH = 100  # directories in directories
_LINKS = 40  # behind one another: as many as Linux follows (path_resolution(7))


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
            found.links[path] = os.readlink(entry.path)  # noqa: PTH115 (an entry)
        else:
            mode = entry.stat(follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                raise NotStorable(f"{entry.path} is neither file, directory nor link")
            found.files[path] = bool(mode & stat.S_IXUSR)
    for path, target in found.links.items():
        if not _stays(path, target, found.links):
            raise NotStorable(
                f"The link {root / path} leads to {target!r}, which is not inside of the directory",
                remedy="Put a copy in its place.",
            )
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
    return encode_json({"layout": LAYOUT, "files": files, "links": found.links, "empty": sorted(found.empty)})


def decode_tree(told: Any, uri: str) -> Tree:
    """Reads the document of a directory.

    Raises `NewerLayout`, and `DocumentDamaged` for what is none, for paths and links that would lead out of where it is
    laid out, and for paths that cannot all be there at once.
    """
    try:
        if type(told["layout"]) is int and told["layout"] > LAYOUT:
            raise NewerLayout(uri, told["layout"], LAYOUT)
        files = [_read_file(path, file, uri) for path, file in sorted(told["files"].items())]
        links, empty = dict(told["links"]), list(told["empty"])
    except (TypeError, KeyError, AttributeError):
        raise DocumentDamaged(uri, "it is no description of a directory") from None
    paths = [*(file.path for file in files), *links, *empty]
    for path in paths:
        if not _is_plain(path):
            raise DocumentDamaged(uri, f"the path {path!r} is none below the directory")
    for path, target in links.items():
        if not isinstance(target, str) or not target or "\0" in target or not _stays(path, target, links):
            raise DocumentDamaged(uri, f"the link {path!r} leads out of the directory")
    # What lies behind a link would be written where the link leads, and behind a file nothing can lie.
    taken = set(paths)
    for path in paths:
        if any(str(parent) in taken for parent in PurePosixPath(path).parents):
            raise DocumentDamaged(uri, f"the path {path!r} leads through what is no directory")
    if len(taken) < len(paths):
        raise DocumentDamaged(uri, "it names a path twice")
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


def _is_plain(path: object) -> bool:
    """Whether a relative path names something below where it starts, without any detour."""
    return isinstance(path, str) and "\0" not in path and not {"", ".", ".."} & set(path.split("/"))


def _stays(path: str, target: str, links: Mapping[str, str]) -> bool:
    """Whether a link leads to something in its directory, also by way of other `links`, as the system follows them."""
    if target.startswith("/"):
        return False
    at = path.split("/")[:-1]
    ahead = target.split("/")[::-1]
    followed = 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            if not at:
                return False
            at.pop()
        elif part not in ("", "."):
            at.append(part)
            further = links.get("/".join(at))
            # The last link is not followed here: where it leads is looked at for itself.
            if further is not None and ahead:
                followed += 1
                if followed > _LINKS:  # it leads nowhere: the system gives up as well
                    return True
                if further.startswith("/"):
                    return False
                at.pop()
                ahead += further.split("/")[::-1]
    return True


def _read_file(path: str, told: Any, uri: str) -> TreeFile:
    digest, size = told["digest"].removeprefix("sha256:"), told["size"]
    extension = told["extension"]
    if not is_digest(digest) or type(size) is not int or size < 0 or not is_extension(extension):
        raise DocumentDamaged(uri, f"what it says of {path!r} is no reference to data")
    return TreeFile(path, DataReference(digest, size, "file", extension, name=path), told.get("executable") is True)
