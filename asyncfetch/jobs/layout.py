"""Where an object's file lies below the directory of a job. Pure: no file is looked at."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from hashlib import blake2b
from string import Formatter

from asyncfetch.errors import UsageError

STATE = ".asyncfetch"  # the job's own folder: its lock, and what is not whole yet
# What a job leaves behind beside the files; no object takes these names at the top.
OWN = (STATE, "logs", "ledger.jsonl", "failures.jsonl", "missing.csv", "report.json", "report.html")

_MOST_EXTENSION = 16  # characters; what is longer is a name with a dot in it
_MOST_BYTES = 255  # of one name, on every file system of Linux and macOS
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file: no file there, with whatever extension. Directories
# are carried to such machines, and shared with them.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])(?:\.|\Z)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FIELDS = ("stem", "ext", "name", "folder", "digest")


@dataclass(frozen=True, slots=True)
class Layout:
    """How files are laid out: the tree of the keys, `flat` without its folders, or by a `template`.

    A template has the fields `{stem}`, `{ext}` (with its dot), `{name}` (both), `{folder}` and `{digest}` (hex), with
    the formats of Python's strings, such as `{digest:.8}`. `ext` replaces every extension. Raises `UsageError` for
    another field, and for a template that names all files alike.
    """

    flat: bool = False
    template: str | None = None
    ext: str | None = None

    def __post_init__(self) -> None:
        if self.template is None:
            return
        if self.flat:
            raise UsageError("--flatten and --template are two layouts", remedy="Say one of them.")
        try:
            fields = [name for _, name, _, _ in Formatter().parse(self.template) if name is not None]
            if not set(fields) <= set(_FIELDS):
                raise ValueError
            self.path("a/b.c", digest="0" * 64)
        except (ValueError, KeyError, IndexError):
            raise UsageError(
                f"--template {self.template!r} is none", remedy=f"Its fields are {', '.join(_FIELDS)}."
            ) from None
        if not {"stem", "name", "digest"} & set(fields):
            raise UsageError(f"--template {self.template!r} gives all files one name", remedy="Put {stem} in it.")

    @property
    def needs_digest(self) -> bool:
        """Whether a path is known only when the object is there."""
        return self.template is not None and "{digest" in self.template

    def path(self, below: str, digest: str = "") -> str:
        """The path, with slashes and relative, of an object that is called `below` under its prefix.

        It leads out of no directory, begins with no slash, and no part of it is empty, special, longer than file
        systems allow, or the name of a device. A part that may not be has its first character written as `%` and its
        number in hexadecimal.
        """
        folder, _, name = below.rpartition("/")
        stem, dot, ext = name.rpartition(".")
        if not stem:
            stem, dot, ext = name, "", ""
        ext = self.ext if self.ext is not None else dot + ext
        if self.template is not None:
            path = self.template.format(stem=stem, ext=ext, name=stem + ext, folder=folder, digest=digest)
        else:
            path = stem + ext if self.flat else f"{folder}/{stem}{ext}" if folder or "/" in below else stem + ext
        parts = [_safe(part) for part in path.split("/")]
        if folded(parts[0]) in OWN:
            parts[0] = _escape(parts[0])
        return "/".join(parts)


def folded(path: str) -> str:
    """What two paths have in common that are one file where case, or the form of accents, does not count."""
    return path if path.isascii() and path.islower() else unicodedata.normalize("NFC", path).casefold()


def apart(path: str, uri: str) -> str:
    """The path of the second, third, … of several objects that would have the same: with a mark of its own URI.

    It depends on nothing else, so it is the same in every run.
    """
    folder, slash, name = path.rpartition("/")
    stem, end = _split(name)
    mark = blake2b(uri.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return folder + slash + _fit(stem, f"-{mark}{end}")


def _safe(part: str) -> str:
    if not part:
        return "%"
    if _CONTROL.search(part):
        part = _CONTROL.sub(lambda found: f"%{ord(found[0]):02X}", part)
    if part in (".", "..") or _DEVICE.match(part):
        part = _escape(part)
    return part if len(part) * 4 <= _MOST_BYTES else _short(part)


def _escape(part: str) -> str:
    return f"%{ord(part[0]):02X}{part[1:]}"


def _short(part: str) -> str:
    """Cuts a name that is too long, and marks it so that it stays its own."""
    encoded = part.encode("utf-8", "surrogateescape")
    if len(encoded) <= _MOST_BYTES:
        return part
    stem, end = _split(part)
    return _fit(stem, f"-{blake2b(encoded, digest_size=4).hexdigest()}{end}")


def _split(name: str) -> tuple[str, str]:
    """Stem and extension; what is too long for one is none."""
    stem, dot, ext = name.rpartition(".")
    return (stem, dot + ext) if stem and len(ext) <= _MOST_EXTENSION else (name, "")


def _fit(stem: str, end: str) -> str:
    room = _MOST_BYTES - len(end.encode("utf-8", "surrogateescape"))
    cut = stem.encode("utf-8", "surrogateescape")
    return (stem if len(cut) <= room else cut[:room].decode("utf-8", "ignore")) + end
